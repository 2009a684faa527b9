"""What can be refused about signing in."""

from app.platform.errors import Conflict, Forbidden, Unauthenticated


class InvalidCredentials(Unauthenticated):
    """The address or the password is wrong, which one isn't said; or the current password is."""

    code = "INVALID_CREDENTIALS"
    message = "The email address or the password is wrong."


class UserSuspended(Forbidden):
    """The password is right, and the user may not sign in at present."""

    code = "USER_SUSPENDED"
    message = "You are suspended."


class EmailNotVerified(Forbidden):
    """The password is right, and the address has to be verified before signing in."""

    code = "EMAIL_NOT_VERIFIED"
    message = "Follow the link in the mail that we sent you, or have your password reset."


class ResetRequired(Forbidden):
    """The password is right, and another one has to be set before signing in."""

    message = "Set a new password: the link is in the mail that we sent you."


class SelfSuspension(Forbidden):
    """Staff suspends others only, whatever their permissions."""

    message = "Nobody suspends themself."


class InvalidRefreshToken(Unauthenticated):
    """The refresh token is none of ours."""

    code = "INVALID_REFRESH_TOKEN"
    message = "The refresh token is not valid."


class SessionRevoked(Unauthenticated):
    """The refresh token was good once; its login session is over."""

    code = "SESSION_REVOKED"
    message = "This login session has ended. Sign in again."


class TooManyApiKeys(Conflict):
    """The user has as many API keys as anybody may have."""

    message = "You have 50 API keys that are good. Delete one first."


class ScopeNotHeld(Forbidden):
    """Nobody gives an API key a permission that they lack themselves."""

    def __init__(self, permission: str) -> None:
        """Take the permission."""
        super().__init__(f"You lack the permission {permission} yourself.")
        self.permission = permission
