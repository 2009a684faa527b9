"""Signing in, on the wire."""

from marshmallow import Schema, fields

from app.platform.fields import Text
from app.users.schemas import Email, Password

_EXAMPLE = "what the last answer had as refresh_token"


class LoginIn(Schema):
    """An address and a password; a short password is wrong and not malformed."""

    email = Email(required=True)
    password = Password(1, required=True)


class RefreshIn(Schema):
    """A refresh token."""

    refresh_token = Text(1, 1000, required=True, metadata={"example": _EXAMPLE})


class LogoutIn(Schema):
    """Which login session to end, for clients whose access token has expired."""

    refresh_token = Text(1, 1000, load_default=None, metadata={"example": _EXAMPLE})


class TokensOut(Schema):
    """An access token for the requests to come, and a refresh token for when it has expired."""

    access_token = fields.String()
    token_type = fields.String(metadata={"example": "Bearer"})
    expires_in = fields.Integer(metadata={"example": 900, "description": "Seconds."})
    refresh_token = fields.String()
    session_id = fields.UUID()
