"""Keeps the key set of this worker: which key signs, which ones verify, what is published."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from app.keys import master, rotation
from app.keys.errors import KeysUnusable
from app.keys.rotation import Record, SigningKeyRow
from app.keys.values import State
from app.platform import clock
from app.platform.db import first_row, reading
from app.platform.errors import Unavailable
from app.platform.log_lines import describe
from app.platform.logging import get_logger
from app.platform.settings import Settings

log = get_logger(__name__)

# How often a worker looks at the keys when nothing else makes it look, and does what is due.
RELOAD_SECONDS = 30
# A token may name a key that another worker has just made, so an unknown one is looked for at
# once; a token that names the same one again costs no query for this long.
UNKNOWN_KEY_SECONDS = 5
# Who makes up more of them than this in that time makes no more looks.
MOST_UNKNOWN_KEYS = 50

_KEY_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ACTIVE = "SELECT id FROM signing_keys WHERE state = 'active'"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one moment: the same object until the keys are others.

    Without a `signing_key` the master keys don't open it: the set still verifies.
    """

    signing_kid: str | None
    signing_key: Any
    verifying: dict[str | None, Any]


class KeyRing:
    """The key set of this process, loaded on first need and looked at again from time to time."""

    def __init__(self, settings: Settings) -> None:
        """Take the algorithm and its secret."""
        self._keys: KeySet | None = None
        self._looking = threading.Lock()
        self._looked_at = 0.0
        self._begun = self._done = 0
        self._unknown: set[str] = set()
        self._unknown_since = 0.0
        self._shared = settings.auth_jwt_algorithm == "HS256"
        if self._shared:
            secret = settings.auth_jwt_secret
            self._keys = KeySet(signing_kid=None, signing_key=secret, verifying={None: secret})

    def current(self) -> KeySet:
        """Return the key set, about RELOAD_SECONDS old at most.

        Raises Unavailable.
        """
        keys = self._keys
        if keys is None:
            return self._look()
        is_old = not self._shared and abs(clock.time() - self._looked_at) > RELOAD_SECONDS
        # One request looks, the others go on with what they have.
        return self.latest() if is_old and not self._looking.locked() else keys

    def latest(self) -> KeySet:
        """Return the key set as it is stored now; while the database is away, the last one.

        Raises Unavailable.
        """
        keys = self._keys
        if keys is None or not self._shared:
            try:
                return self._look()
            except Unavailable:
                if keys is None:
                    raise
        return keys

    def signing(self) -> KeySet:
        """Return a key set whose signing key is the active one of this moment.

        The database is asked each time: the tokens of a key that was revoked a second ago would
        be refused on every machine.

        Raises KeysUnusable or Unavailable.
        """
        keys = self.current()
        if not self._shared:
            active = first_row(_ACTIVE, {})
            if active is None or str(active.id) != keys.signing_kid:
                keys = self._look()
        if keys.signing_key is None:
            raise KeysUnusable
        return keys

    def find(self, kid: str | None) -> Any:
        """Return the key that verifies tokens of this `kid`, or None when there is none.

        Raises Unavailable.
        """
        keys = self.current()
        if kid is None or self._shared or kid in keys.verifying or not _KEY_ID.fullmatch(kid):
            return keys.verifying.get(kid)
        if abs(clock.time() - self._unknown_since) > UNKNOWN_KEY_SECONDS:
            self._unknown.clear()
            self._unknown_since = clock.time()
        if kid in self._unknown or len(self._unknown) >= MOST_UNKNOWN_KEYS:
            return None
        key = self._look().verifying.get(kid)
        if key is None:
            self._unknown.add(kid)
        return key

    def _look(self) -> KeySet:
        """Return the key set as it was stored at some moment after this call.

        One look at a time, so that none overwrites a newer one with what it read before; those who
        wait share the next look, however many they are.

        Raises Unavailable.
        """
        noted = self._begun
        with self._looking:
            if self._begun == noted:
                self._begun += 1
                self._keys = self._load()
                self._done = self._begun
            if self._keys is None or self._done != self._begun:
                raise Unavailable
            return self._keys

    def _load(self) -> KeySet:
        self._looked_at = clock.time()
        with reading() as connection:
            stored = rotation.read(connection)
        if rotation.is_due(stored):
            stored = _advanced(stored)
        rows = {str(row.id): row for row in stored if row.state != State.REVOKED}
        active = next(row for row in rows.values() if row.state == State.ACTIVE)
        before, signing_kid = self._keys, str(active.id)
        if (
            before is not None
            and before.signing_key is not None
            and before.signing_kid == signing_kid
            and before.verifying.keys() == rows.keys()
        ):
            return before
        return KeySet(
            signing_kid=signing_kid,
            signing_key=_opened(active),
            verifying={
                kid: Ed25519PublicKey.from_public_bytes(row.public_key) for kid, row in rows.items()
            },
        )


def _advanced(stored: Sequence[SigningKeyRow]) -> Sequence[SigningKeyRow]:
    """Do what is due; when that isn't possible just now, go on with the keys that there are.

    Raises Unavailable when there is no active one.
    """
    try:
        return rotation.advance()
    except Unavailable as fault:
        if not any(row.state == State.ACTIVE for row in stored):
            raise
        log.warning("signing_keys_not_rotated", fault=describe(fault.__cause__ or fault))
        return stored


def _opened(active: SigningKeyRow) -> Ed25519PrivateKey | None:
    try:
        return Ed25519PrivateKey.from_private_bytes(rotation.private_part(active))
    except KeysUnusable:
        return None


_ring: KeyRing


def configure(settings: Settings, *, record: Record) -> None:
    """Start with an empty key ring and the settings' algorithm, times and master keys.

    `record(session, change, key_id, actor)` audits in the transaction of the change.
    """
    global _ring
    master.configure(settings.auth_master_keys)
    rotation.configure(settings, record=record)
    _ring = KeyRing(settings)


def readiness() -> str:
    """Return `ok` when access tokens can be signed and verified, else what is wrong.

    Raises Unavailable.
    """
    try:
        _ring.signing()
    except KeysUnusable:
        return "APP_AUTH_MASTER_KEYS doesn't open the signing key"
    return "ok"


def ring() -> KeyRing:
    """Return this process's key ring."""
    return _ring


def published() -> list[dict[str, Any]]:
    """Return the public keys as JWKs (RFC 8037); none when a shared secret signs.

    As they are stored now: who asks may have just met a token of a new key.

    Raises Unavailable.
    """
    return [
        OKPAlgorithm.to_jwk(key, as_dict=True) | {"kid": kid, "use": "sig", "alg": "EdDSA"}
        for kid, key in _ring.latest().verifying.items()
        if isinstance(key, Ed25519PublicKey)
    ]
