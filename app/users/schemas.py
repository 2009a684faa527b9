"""Users on the wire."""

import unicodedata
from typing import Any
from uuid import UUID

from marshmallow import Schema, ValidationError, fields, validate

from app.platform.fields import Text, Time
from app.platform.pagination import PageQuery
from app.users.values import (
    EMAIL_MAX,
    EMAIL_MIN,
    IDS_MAX,
    NAME_MAX,
    NAME_MIN,
    PASSWORD_MAX,
    PASSWORD_MIN,
    ROLES,
    Status,
    email_key,
)


class Email(Text):
    """An email address, spelled as its owner spells it."""

    def __init__(self, **kwargs: Any) -> None:
        """Take marshmallow's field options."""
        super().__init__(
            EMAIL_MIN,
            EMAIL_MAX,
            metadata={"format": "email", "example": "ada@example.com"},
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        email = super()._deserialize(value, attr, data, **kwargs)
        # What is too long is refused for that; the parser needn't see it.
        if len(email) <= EMAIL_MAX:
            try:
                email_key(email)
            except ValueError as error:
                raise ValidationError("Not a valid email address.") from error
        return email


class Password(Text):
    """A password, in NFKC, of `minimum` to 128 characters in that form."""

    def __init__(self, minimum: int, **kwargs: Any) -> None:
        """Take the shortest length."""
        super().__init__(
            minimum,
            PASSWORD_MAX,
            metadata={"format": "password", "example": "lovelace-1843-notes"},
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        password = super()._deserialize(value, attr, data, **kwargs)
        # Normalising takes quadratic time for some texts. Composing four characters into one is
        # as far as it shortens, so a longer one is too long in any form.
        if len(password) > 4 * PASSWORD_MAX:
            return password
        return unicodedata.normalize("NFKC", password)


class Ids(fields.String):
    """Up to 100 UUIDs, separated by commas."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        parts = super()._deserialize(value, attr, data, **kwargs).split(",")
        if len(parts) > IDS_MAX:
            raise ValidationError(f"Must be at most {IDS_MAX} ids.")
        try:
            return [UUID(part) for part in parts]
        except ValueError as error:
            raise ValidationError("Must be UUIDs, separated by commas.") from error


class UserIn(Schema):
    """Who wants to sign up."""

    email = Email(required=True)
    name = Text(NAME_MIN, NAME_MAX, required=True, metadata={"example": "Ada"})
    password = Password(PASSWORD_MIN, required=True)


class RolesIn(Schema):
    """All roles of a user; `user`, which everybody has, may be left out."""

    roles = fields.List(fields.String(validate=validate.OneOf(tuple(ROLES))), required=True)


class UserOut(Schema):
    """A user."""

    id = fields.UUID()
    email = fields.String(metadata={"example": "ada@example.com"})
    email_verified = fields.Boolean()
    name = fields.String(metadata={"example": "Ada"})
    roles = fields.List(fields.String(validate=validate.OneOf(tuple(ROLES))))
    status = fields.String(validate=validate.OneOf([status.value for status in Status]))
    created_at = Time()
    updated_at = Time()


class UserListOut(Schema):
    """A page of users, newest first."""

    items = fields.List(fields.Nested(UserOut))
    next_cursor = fields.String(allow_none=True)


class UserListQuery(PageQuery):
    """Which users to list: those that match every filter; the time is exclusive."""

    name = Text(NAME_MIN, NAME_MAX, metadata={"description": "A part of the name, in any case."})
    email = Email()
    role = fields.String(validate=validate.OneOf(tuple(ROLES)))
    status = fields.String(validate=validate.OneOf([status.value for status in Status]))
    ids = Ids(metadata={"description": "Up to 100 ids, separated by commas."})
    created_after = Time()
