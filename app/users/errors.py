"""What can be refused about users."""

from app.platform.errors import Conflict, Unprocessable


class EmailTaken(Conflict):
    """Another user has this address, maybe in another spelling."""

    code = "EMAIL_TAKEN"
    message = "A user with this email address exists already."


class WeakPassword(Unprocessable):
    """The password is common, or is the user's own address or name."""

    code = "WEAK_PASSWORD"
    message = "This password is too easy to guess. Take a longer or less common one."
