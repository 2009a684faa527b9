"""Looks at the signing keys: whether the master keys open them, and what is due."""

from collections.abc import Iterator

from app.keys import rotation
from app.keys.errors import KeysUnusable
from app.keys.values import State
from app.platform.db import reading


def unopened() -> Iterator[str]:
    """Say of which signing keys the private part can't be opened by APP_AUTH_MASTER_KEYS.

    Raises Unavailable.
    """
    with reading() as connection:
        keys = rotation.read(connection)
    for key in keys:
        if key.state == State.REVOKED:
            continue
        try:
            rotation.private_part(key)
        except KeysUnusable:
            yield (
                f"APP_AUTH_MASTER_KEYS doesn't open the signing key {key.id} ({key.state}), which"
                f" was encrypted under master key {key.master_key_version}: add that one again."
            )
