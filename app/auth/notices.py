"""What a user is told about by mail, so that somebody else's doing doesn't go unseen."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.auth import device_names, queries
from app.mail import service as mail
from app.mail.values import Kind
from app.platform import clock
from app.users.models import UserRow

# A user of less than this who was never signed in signs in for the first time.
NEW = timedelta(days=1)
_UNKNOWN = "unknown"


def new_device(session: Session, *, user: UserRow, device: str | None, address: str | None) -> None:
    """Tell of a sign-in from a device that showed no device token, in the caller's transaction.

    Not of a new user's very first sign-in, and not of one that looks like an earlier one: a program
    that signs in every hour and keeps no device token would bury what matters. Who comes back after
    so long that no login session is left is told.
    """
    earlier = queries.earlier(session, user_id=user.id, device=device, address=address)
    is_new = clock.now() - user.created_at < NEW
    if not earlier.alike and (earlier.any or not is_new):
        facts = {"device": _words(device), "address": address or _UNKNOWN, "time": _now()}
        mail.request(session, Kind.NEW_DEVICE, user_id=user.id, facts=facts)


def reused(session: Session, *, user_id: UUID, device: str | None) -> None:
    """Tell that a login session ended because an old refresh token came back."""
    facts = {"device": _words(device), "time": _now()}
    mail.request(session, Kind.REUSED, user_id=user_id, facts=facts)


def api_key_made(session: Session, *, user_id: UUID, scopes: Iterable[str]) -> None:
    """Tell that an API key was made, which goes on after a change of password."""
    facts = {"scopes": ", ".join(scopes), "time": _now()}
    mail.request(session, Kind.API_KEY_MADE, user_id=user_id, facts=facts)


def change_of_address(session: Session, *, user: UserRow) -> None:
    """Tell the address of a user that another one is to take its place.

    With a link that takes that back, if it was ever proven to be the user's: a mistyped one is
    somebody else's, who would get the account by it.
    """
    kind = Kind.CHANGE_NOTICE if user.email_verified else Kind.CHANGE_TOLD
    mail.request(session, kind, user_id=user.id, email=user.email)


def deletion(
    session: Session, *, user_id: UUID, on: datetime, was: str, until: datetime | None
) -> None:
    """Tell that a user is being deleted for good on that day, with a link that undoes it.

    `was` is the status that the user then has again; `until` ends it, if it was a suspension.
    """
    facts = {"date": _day(on), "was": was}
    if until is not None:
        facts["until"] = until.isoformat()
    mail.request(session, Kind.DELETION, user_id=user_id, facts=facts)


def _words(device: str | None) -> str:
    return device_names.in_words(device) or _UNKNOWN


def _now() -> str:
    return in_words(clock.now())


def in_words(moment: datetime) -> str:
    """Return a moment as mails name it: `29 November 2026, 14:05 UTC`."""
    return f"{_day(moment)}, {moment:%H:%M} UTC"


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"
