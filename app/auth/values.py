"""How long signing in lasts, and what login sessions are described with."""

from datetime import timedelta
from enum import StrEnum

# A device that nobody used for a month, or that signed in a season ago, signs in again.
IDLE = timedelta(days=30)
ABSOLUTE = timedelta(days=90)
# Two tabs wake up together and send the same refresh token: the second one isn't a thief.
GRACE = timedelta(seconds=30)
DEVICE_MAX = 200
REASON_MIN, REASON_MAX = 1, 500


class EndReason(StrEnum):
    """Why a login session ended before its time."""

    LOGOUT = "logout"
    REUSE = "reuse"
    ENDED = "ended"  # By its user, from another device or with all the others.
    CREDENTIAL = "credential"  # The password was changed.
    SUSPENDED = "suspended"
    STAFF = "staff"


def device_of(user_agent: str | None) -> str | None:
    """Return the user agent in short, to recognise a device by."""
    printable = "".join(character for character in user_agent or "" if character.isprintable())
    return printable.strip()[:DEVICE_MAX] or None
