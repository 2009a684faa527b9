"""Keeps the key set of this worker: which key signs, which ones verify, what is published."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from sqlalchemy import Row, bindparam, func, insert, select
from sqlalchemy.orm import Session

from app.keys import master
from app.keys.errors import KeysUnusable, UnknownMasterKey
from app.keys.models import signing_keys
from app.platform import clock, ids
from app.platform.db import reading, transaction
from app.platform.logging import get_logger
from app.platform.settings import Settings

log = get_logger(__name__)
RecordCreated = Callable[[Session, UUID], None]

# How long a worker may go on with the set that it has: a revoked key verifies no longer than this.
RELOAD_SECONDS = 30
# A token may name a key that another worker has just made. Tokens with made-up names must not cost
# a query each: after one look the worker waits this long before the next.
UNKNOWN_KEY_SECONDS = 5

_LABEL = "signing key"
# Names the advisory lock under which the first key is made; nothing else may use this number.
_FIRST_KEY_LOCK = 4_201_973

_READ = select(
    signing_keys.c.id,
    signing_keys.c.state,
    signing_keys.c.public_key,
    signing_keys.c.private_key,
    signing_keys.c.master_key_version,
).where(signing_keys.c.state.in_(("published", "active", "retiring")))
_ACTIVE = select(signing_keys.c.id).where(signing_keys.c.state == "active")
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number")))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one moment. `version` grows by one whenever the set is another one."""

    version: int
    signing_kid: str | None
    signing_key: Any
    verifying: dict[str | None, Any]


class KeyRing:
    """The key set of this process, loaded on first need and looked at again from time to time."""

    def __init__(self, settings: Settings, record_created: RecordCreated) -> None:
        """Take the algorithm and its secret; `record_created` audits a new key."""
        self._record_created = record_created
        self._loading = threading.Lock()
        self._looked_at = 0.0
        self._keys: KeySet | None = None
        self._shared = settings.auth_jwt_algorithm == "HS256"
        if self._shared:
            secret = settings.auth_jwt_secret
            self._keys = KeySet(
                version=1, signing_kid=None, signing_key=secret, verifying={None: secret}
            )

    def current(self) -> KeySet:
        """Return the key set, at most RELOAD_SECONDS old.

        Raises Unavailable.
        """
        keys = self._keys
        if keys is None:
            # The first requests of a worker arrive together: one of them loads, the others wait.
            with self._loading:
                return self._keys or self._load()
        if not self._shared and self._age() > RELOAD_SECONDS:
            return self._load()
        return keys

    def find(self, kid: str | None) -> Any:
        """Return the key that verifies tokens of this `kid`, or None when there is none.

        Raises Unavailable.
        """
        verifying = self.current().verifying
        if kid not in verifying and not self._shared and self._age() > UNKNOWN_KEY_SECONDS:
            verifying = self._load().verifying
        return verifying.get(kid)

    def _age(self) -> float:
        return abs(clock.time() - self._looked_at)

    def _load(self) -> KeySet:
        # Set before the query, so that nobody else asks while it runs: they keep the old set.
        self._looked_at = clock.time()
        with reading() as connection:
            rows = connection.execute(_READ).all()
        active = next((row for row in rows if row.state == "active"), None)
        if active is None:
            make_first_key(self._record_created)
            return self._load()
        before = self._keys
        kids = {str(row.id) for row in rows}
        if before and before.signing_kid == str(active.id) and before.verifying.keys() == kids:
            return before
        secret = _opened(active)
        self._keys = KeySet(
            version=before.version + 1 if before else 1,
            signing_kid=str(active.id),
            signing_key=Ed25519PrivateKey.from_private_bytes(secret),
            verifying={
                str(row.id): Ed25519PublicKey.from_public_bytes(row.public_key) for row in rows
            },
        )
        return self._keys


def _opened(row: Row[*tuple[Any, ...]]) -> bytes:
    """Return the private part of a stored key.

    Raises KeysUnusable.
    """
    version = row.master_key_version
    try:
        return master.decrypt(_LABEL, row.private_key, context=row.id.bytes, version=version)
    except (UnknownMasterKey, InvalidTag) as error:
        log.error(
            "signing_key_not_opened",
            setting="APP_AUTH_MASTER_KEYS",
            signing_key_id=str(row.id),
            master_key_version=version,
        )
        raise KeysUnusable from error


_ring: KeyRing


def configure(settings: Settings, *, record_created: RecordCreated) -> None:
    """Start with an empty key ring and the settings' algorithm and master keys.

    `record_created(session, key_id)` audits a new key in the transaction that makes it.
    """
    global _ring
    master.configure(settings.auth_master_keys)
    _ring = KeyRing(settings, record_created)


def readiness() -> str:
    """Return `ok` when access tokens can be signed and verified, else what is wrong."""
    try:
        _ring.current()
    except KeysUnusable:
        return "APP_AUTH_MASTER_KEYS doesn't open the signing key"
    return "ok"


def ring() -> KeyRing:
    """Return this process's key ring."""
    return _ring


def make_first_key(record_created: RecordCreated) -> None:
    """Make the active signing key unless there is one already; workers racing here make one."""
    with transaction() as session:
        # The losers wait here, and their next statement sees the winner's row.
        session.execute(_LOCK, {"number": _FIRST_KEY_LOCK})
        if session.execute(_ACTIVE).first() is not None:
            return
        key_id, now, pair = ids.new(), clock.now(), Ed25519PrivateKey.generate()
        session.execute(
            insert(signing_keys).values(
                id=key_id,
                state="active",
                public_key=pair.public_key().public_bytes_raw(),
                private_key=master.encrypt(_LABEL, pair.private_bytes_raw(), context=key_id.bytes),
                master_key_version=master.current_version(),
                created_at=now,
                activated_at=now,
            )
        )
        record_created(session, key_id)


def published() -> list[dict[str, Any]]:
    """Return the public keys as JWKs (RFC 8037); none when a shared secret signs.

    Raises Unavailable.
    """
    return [
        OKPAlgorithm.to_jwk(key, as_dict=True) | {"kid": kid, "use": "sig", "alg": "EdDSA"}
        for kid, key in _ring.current().verifying.items()
        if isinstance(key, Ed25519PublicKey)
    ]
