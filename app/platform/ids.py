"""Makes identifiers. They are unique and nothing more: no code reads time or order out of one."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new() -> UUID:
    """Return a new UUID, version 7 (RFC 9562), as a plain `uuid.UUID`."""
    return uuid7()
