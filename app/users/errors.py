"""What can be refused about users."""

from app.platform.errors import Conflict, Forbidden, Unprocessable


class EmailTaken(Conflict):
    """Another user has this address, maybe in another spelling."""

    code = "EMAIL_TAKEN"
    message = "A user with this email address exists already."


class WeakPassword(Unprocessable):
    """The password is common, is the user's own address or name, or no new one."""

    code = "WEAK_PASSWORD"
    message = "This password is too easy to guess. Take a longer or less common one."


class StrongerUser(Forbidden):
    """Staff acts only on users whose every permission they hold themselves."""

    message = "This user holds a permission that you lack."


class SelfPromotion(Forbidden):
    """Nobody adds a role to themself, whatever their permissions."""

    message = "Nobody gives roles to themself."


class LastAdmin(Conflict):
    """Without this user nobody would be left who is an administrator and may sign in."""

    code = "LAST_ADMIN"
    message = "The last active administrator stays one."
