"""How long signing in lasts, why login sessions end, and what API keys may be."""

from datetime import timedelta
from enum import StrEnum

from app.platform.actor import SELF_READ, SELF_WRITE
from app.users.values import PERMISSIONS

# A device that nobody used for a month, or that signed in a season ago, signs in again.
IDLE = timedelta(days=30)
ABSOLUTE = timedelta(days=90)
# Two tabs wake up together and send the same refresh token: the second one isn't a thief.
GRACE = timedelta(seconds=30)
DEVICE_MAX = 200
REASON_MIN, REASON_MAX = 1, 500

SCOPES = PERMISSIONS | {SELF_READ, SELF_WRITE}
API_KEY_NAME_MIN, API_KEY_NAME_MAX = 1, 100
# More than anybody has programs. It bounds what one user can fill the table with in a day.
API_KEYS_MOST = 50
# Longer than anybody's life is for good. It also keeps times out that Python can't read again.
API_KEY_LIFE_MOST = timedelta(days=36_500)
# How long the secret before stays good: a day to give everybody the new one, a week at most.
OVERLAP_SECONDS, OVERLAP_SECONDS_MOST = 86_400, 604_800
# An API key's last use is known to the minute: each request would be a write otherwise.
USE_NOTED_EVERY = timedelta(minutes=1)


class EndReason(StrEnum):
    """Why a login session ended before its time."""

    LOGOUT = "logout"
    REUSE = "reuse"
    ENDED = "ended"  # By its user, from another device or with all the others.
    CREDENTIAL = "credential"  # The password was changed.
    SUSPENDED = "suspended"
    STAFF = "staff"
    DELETED = "deleted"  # The deletion of the user has begun.
