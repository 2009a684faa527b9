"""The states of signing keys, what happens to them, and how long each state lasts."""

from datetime import timedelta
from enum import StrEnum

# Foreign services keep the published set for ten minutes: this long before it signs, a key is
# published, so that nobody meets a token whose key they don't have.
PUBLISHED_FOR = timedelta(minutes=20)
# A key is kept for one access token's life after it has stopped signing, and this much longer:
# a request that is signing just then takes its time, and clocks of machines differ.
RETIRING_MARGIN = timedelta(minutes=2)


class State(StrEnum):
    """What a signing key is good for; the migration says more."""

    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"


class Change(StrEnum):
    """What happened to a signing key: the verb of its audit event."""

    CREATED = "created"
    ACTIVATED = "activated"
    REENCRYPTED = "reencrypted"
    REVOKED = "revoked"
    DELETED = "deleted"
