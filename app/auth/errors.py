"""What can be refused about signing in."""

from app.platform.errors import Forbidden, Unauthenticated


class InvalidCredentials(Unauthenticated):
    """The address or the password is wrong, which one isn't said; or the current password is."""

    code = "INVALID_CREDENTIALS"
    message = "The email address or the password is wrong."


class UserSuspended(Forbidden):
    """The password is right, and the user may not sign in at present."""

    code = "USER_SUSPENDED"
    message = "You are suspended."


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
