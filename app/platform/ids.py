"""Makes identifiers. They are unique and nothing more: no code reads time or order out of one."""

from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

# What a client may send as the id of its request, as a regular expression.
REQUEST_ID: Final = r"[A-Za-z0-9._-]{1,128}"


def new() -> UUID:
    """Return a new UUID, version 7 (RFC 9562), as a plain `uuid.UUID`."""
    return uuid7()
