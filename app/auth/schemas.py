"""Signing in, on the wire."""

from marshmallow import Schema, fields, validate

from app.auth.values import REASON_MAX, REASON_MIN
from app.platform.fields import Text, Time
from app.users.schemas import Email, Password
from app.users.values import NAME_MAX, NAME_MIN, PASSWORD_MIN

_EXAMPLE = "what the last answer had as refresh_token"


class LoginIn(Schema):
    """An address and a password; a short password is wrong and not malformed.

    With the transport `cookie` the refresh token goes into a cookie, out of reach of pages.
    """

    email = Email(required=True)
    password = Password(1, required=True)
    device_token = Text(
        1,
        1000,
        load_default=None,
        metadata={"description": "What an earlier sign-in from this device was answered."},
    )
    transport = fields.String(
        load_default="body",
        validate=validate.OneOf(["body", "cookie"]),
        metadata={"description": "Where the refresh token goes."},
    )


class RefreshIn(Schema):
    """A refresh token; a browser that has it in its cookie sends none."""

    refresh_token = Text(1, 1000, load_default=None, metadata={"example": _EXAMPLE})


class LogoutIn(Schema):
    """Which login session to end, for clients whose access token has expired."""

    refresh_token = Text(1, 1000, load_default=None, metadata={"example": _EXAMPLE})


class PasswordChangeIn(Schema):
    """The password that one has, as proof, and the one to have from now on."""

    current_password = Password(1, required=True)
    new_password = Password(PASSWORD_MIN, required=True)


class ForgotIn(Schema):
    """The address of whom has lost the password."""

    email = Email(required=True)


class TokenIn(Schema):
    """What stands in the link of a mail, behind its `#`."""

    token = Text(1, 1000, required=True)


class ResetIn(TokenIn):
    """A mail's token, and the password to have from now on."""

    new_password = Password(PASSWORD_MIN, required=True)


class ProfilePatchIn(Schema):
    """What to change of who a user is."""

    name = Text(NAME_MIN, NAME_MAX, metadata={"example": "Ada"})
    email = Email()


class ProfileIn(Schema):
    """Who a user is from now on."""

    name = Text(NAME_MIN, NAME_MAX, required=True, metadata={"example": "Ada"})
    email = Email(required=True)


class SuspendIn(Schema):
    """Why to suspend a user, and until when; without a time until they are reinstated."""

    reason = Text(REASON_MIN, REASON_MAX, required=True, metadata={"example": "Chargebacks"})
    until = Time(load_default=None)


class LoginSessionOut(Schema):
    """A device that is signed in."""

    id = fields.UUID()
    device = fields.String(allow_none=True, metadata={"example": "Firefox on Windows"})
    address = fields.String(allow_none=True, metadata={"example": "192.0.2.7"})
    created_at = Time()
    last_used_at = Time(metadata={"description": "The last sign-in or refresh."})
    current = fields.Boolean(metadata={"description": "Whether it is the one that asks."})


class LoginSessionListOut(Schema):
    """A page of login sessions."""

    items = fields.List(fields.Nested(LoginSessionOut))
    next_cursor = fields.String(allow_none=True)


class TokensOut(Schema):
    """An access token for the requests to come, and a refresh token for when it has expired."""

    access_token = fields.String()
    token_type = fields.String(metadata={"example": "Bearer"})
    expires_in = fields.Integer(metadata={"example": 900, "description": "Seconds."})
    refresh_token = fields.String()
    session_id = fields.UUID()
    device_token = fields.String(metadata={"description": "Send it at the next sign-in."})


class BrowserTokensOut(Schema):
    """An access token, and what proves beside the cookie that a page may use it."""

    access_token = fields.String()
    token_type = fields.String(metadata={"example": "Bearer"})
    expires_in = fields.Integer(metadata={"example": 900, "description": "Seconds."})
    session_id = fields.UUID()
    csrf_token = fields.String(metadata={"description": "Send it as `X-CSRF-Token`."})
