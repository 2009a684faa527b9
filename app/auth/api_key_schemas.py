"""API keys, on the wire."""

from marshmallow import Schema, fields, validate

from app.auth.values import (
    API_KEY_NAME_MAX,
    API_KEY_NAME_MIN,
    OVERLAP_SECONDS,
    OVERLAP_SECONDS_MOST,
    SCOPES,
)
from app.platform.fields import Text, Time, Whole

_SCOPE = validate.OneOf(sorted(SCOPES))
_NAME = "Billing server"
_EXAMPLE = ["credits:charge"]


class ApiKeyIn(Schema):
    """What an API key is called and may do; without an expiry it is good until it is deleted."""

    name = Text(API_KEY_NAME_MIN, API_KEY_NAME_MAX, required=True, metadata={"example": _NAME})
    scopes = fields.List(
        fields.String(validate=_SCOPE),
        required=True,
        validate=validate.Length(1, len(SCOPES)),
        metadata={
            "example": _EXAMPLE,
            "description": "Permissions that one holds oneself, `self:read` and `self:write`.",
        },
    )
    expires_at = Time(load_default=None, allow_none=True)


class RotateIn(Schema):
    """How long the key's text until now stays good beside the new one."""

    overlap_seconds = Whole(
        0, OVERLAP_SECONDS_MOST, load_default=OVERLAP_SECONDS, metadata={"example": OVERLAP_SECONDS}
    )


class ApiKeyOut(Schema):
    """An API key, without what proves it."""

    id = fields.UUID()
    name = fields.String(metadata={"example": _NAME})
    scopes = fields.List(fields.String(validate=_SCOPE), metadata={"example": _EXAMPLE})
    created_at = Time()
    expires_at = Time(allow_none=True)
    last_used_at = Time(allow_none=True, metadata={"description": "To the minute."})
    previous_until = Time(
        allow_none=True,
        metadata={"description": "Until when the text before the last rotation is good, too."},
    )


class IssuedApiKeyOut(ApiKeyOut):
    """An API key with its text, which is shown this once."""

    key = fields.String(
        metadata={"description": "Send it as `Authorization: Bearer …`; it can't be had again."}
    )


class ApiKeyListOut(Schema):
    """A page of API keys."""

    items = fields.List(fields.Nested(ApiKeyOut))
    next_cursor = fields.String(allow_none=True)
