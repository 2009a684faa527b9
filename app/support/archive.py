"""Makes an archive: one JSON object of everything that is known of a user, compressed by gzip.

Rows are compressed as they are read, so that making one takes the memory of what is stored, about a
sixth of the archive, and of one page.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy.orm import Session

from app.platform import clock
from app.platform.db import snapshot
from app.support import queries

# zlib's way to say: with the header and the check sum of gzip (RFC 1952).
_GZIP: Final = 16 + zlib.MAX_WBITS
# What a stream of an archive keeps in memory at a time.
_PIECE: Final = 64 * 1024


def make(user_id: UUID) -> bytes:
    """Return the archive of a user, as everything was at one moment.

    Raises Unavailable.
    """
    packer = zlib.compressobj(wbits=_GZIP)
    packed = bytearray()
    with snapshot() as session:
        for piece in _written(session, user_id):
            packed += packer.compress(piece)
    packed += packer.flush()
    return bytes(packed)


def unpacked(packed: bytes) -> Iterator[bytes]:
    """Give the JSON of an archive, in pieces of 64 KiB at most."""
    unpacker = zlib.decompressobj(wbits=_GZIP)
    while not unpacker.eof:
        yield unpacker.decompress(packed, _PIECE)
        packed = unpacker.unconsumed_tail


def _written(session: Session, user_id: UUID) -> Iterator[bytes]:
    head = {
        "made_at": clock.now(),
        "user": dict(queries.look_at_user(session, user_id)),
        "balance": dict(queries.look_at_balance(session, user_id)),
    }
    yield _json(head).removesuffix(b"}")
    for name, listed in queries.LISTS.items():
        yield b"," + _json(name) + b":["
        between = b""
        for row in queries.walk(session, listed, user_id):
            yield between + _json(row)
            between = b","
        yield b"]"
    yield b"}"


def _json(value: Any) -> bytes:
    # Names of columns are of a kind of str that orjson takes for another one.
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
