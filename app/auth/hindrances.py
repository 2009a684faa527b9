"""What keeps a user from signing in who has the right password."""

from app.auth.errors import EmailNotVerified, ResetRequired, UserSuspended
from app.platform import clock
from app.platform.errors import AppError
from app.platform.settings import Settings
from app.users.models import UserRow
from app.users.values import Status

_verified_only = False


def configure(settings: Settings) -> None:
    """Let those sign in whom the settings let in, from now on."""
    global _verified_only
    _verified_only = settings.auth_require_verified_email


def of(user: UserRow) -> tuple[str, AppError] | None:
    """Return why the right password isn't enough, for the audit trail and for the user."""
    if user.status == Status.SUSPENDED and not _is_over(user):
        return "suspended", UserSuspended()
    if user.reset_required:
        return "reset_required", ResetRequired()
    if _verified_only and not user.email_verified:
        return "email_not_verified", EmailNotVerified()
    return None


def _is_over(user: UserRow) -> bool:
    return user.suspended_until is not None and user.suspended_until <= clock.now()
