"""The text of API keys, `bk_<id>_<secret>`, and the digest by which a secret is known again.

The prefix tells a key from an access token, and tells scanners of source code what they have found.
"""

import hashlib
import os
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from uuid import UUID

from app.platform.errors import Unauthenticated

_PREFIX = "bk_"
_SECRET_BYTES = 32
# The id as 32 hexadecimal digits, and the secret in base64 for URLs, which is 43 characters.
_SHAPE = re.compile(r"bk_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentKey:
    """An API key as somebody has sent it: maybe one of ours."""

    key_id: UUID
    digest: bytes = field(repr=False)


def is_key(token: str) -> bool:
    """Tell whether a bearer token is meant to be an API key."""
    return token.startswith(_PREFIX)


def make_key(key_id: UUID) -> tuple[str, bytes]:
    """Return a new API key's text, which is stored nowhere, and the digest of its secret."""
    secret = urlsafe_b64encode(os.urandom(_SECRET_BYTES)).rstrip(b"=").decode()
    return f"{_PREFIX}{key_id.hex}_{secret}", _digest(secret)


def read_key(token: str) -> SentKey:
    """Return what an API key's text says.

    Raises Unauthenticated.
    """
    parts = _SHAPE.fullmatch(token)
    if parts is None:
        raise Unauthenticated
    return SentKey(key_id=UUID(parts[1]), digest=_digest(parts[2]))


def _digest(secret: str) -> bytes:
    # Of the text and not of the bytes that it spells: its last character has spare bits, and a key
    # has one spelling.
    return hashlib.sha256(secret.encode()).digest()
