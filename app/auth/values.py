"""How long signing in lasts, why login sessions end, and limits of what is said about them."""

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
