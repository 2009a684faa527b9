"""Moves signing keys on: what is due by the time, and what an operator asks for.

Every change is made in one transaction under one lock and is audited there. Whoever waited for the
lock reads the keys again, so workers that see the same step come due take it once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from app.keys import master
from app.keys.errors import KeysUnusable, NoSuchSigningKey, UnknownMasterKey
from app.keys.models import signing_keys
from app.keys.values import PUBLISHED_FOR, RETIRING_MARGIN, Change, State
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.logging import get_logger
from app.platform.settings import Settings

log = get_logger(__name__)
SigningKeyRow: TypeAlias = Row[*tuple[Any, ...]]
Record = Callable[[Session, Change, UUID, Actor], None]

_LABEL = "signing key"
# Names the advisory lock under which keys change; nothing else may use this number.
_LOCK_NUMBER = 4_201_973
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number")))
_READ = select(signing_keys).order_by(signing_keys.c.created_at, signing_keys.c.id)
# When the first key of all is due.
AT_ONCE = datetime.min.replace(tzinfo=UTC)
_SERVICE = Actor(kind="system")

_record: Record
_active_for = timedelta()
_retiring_for = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What the service does next with a key (`None`: with a new one), from this moment on."""

    change: Change
    key_id: UUID | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The key that signs next, from when on, and whether it was made just now."""

    key_id: UUID
    signs_at: datetime
    is_new: bool


def configure(settings: Settings, *, record: Record) -> None:
    """Use the settings' times from now on; `record(session, change, key_id, actor)` audits."""
    global _active_for, _retiring_for, _record
    _active_for = timedelta(days=settings.auth_signing_key_days)
    _retiring_for = timedelta(seconds=settings.auth_access_seconds) + RETIRING_MARGIN
    _record = record


def read(connection: Connection | Session) -> Sequence[SigningKeyRow]:
    """Return all signing keys, the oldest first."""
    return connection.execute(_READ).all()


def overview() -> tuple[Sequence[SigningKeyRow], list[Step]]:
    """Return all signing keys, the oldest first, and what the service does next with them.

    Raises Unavailable.
    """
    with reading() as connection:
        keys = read(connection)
    return keys, list(plan(keys))


def plan(keys: Sequence[Any]) -> Iterator[Step]:
    """Give the next step of each key, and the one that makes a new key."""
    active = next((key for key in keys if key.state == State.ACTIVE), None)
    waiting = next((key for key in keys if key.state == State.PUBLISHED), None)
    if waiting is not None:
        at = waiting.created_at + PUBLISHED_FOR if active else AT_ONCE
        yield Step(change=Change.ACTIVATED, key_id=waiting.id, at=at)
    else:
        at = active.activated_at + _active_for if active else AT_ONCE
        yield Step(change=Change.CREATED, key_id=None, at=at)
    for key in keys:
        # A revoked key is kept as long, because until then somebody may ask what became of it.
        if key.state in (State.RETIRING, State.REVOKED) and key.retired_at is not None:
            yield Step(change=Change.DELETED, key_id=key.id, at=key.retired_at + _retiring_for)


def is_due(keys: Sequence[Any]) -> bool:
    """Tell whether a step of the plan is due, or a private part is under an older master key."""
    return any(_due(keys)) or any(map(_is_outdated, keys))


def advance() -> Sequence[SigningKeyRow]:
    """Do all that is due, and return the keys as they are then.

    Raises Unavailable.
    """
    with transaction() as session:
        return _advance(session, _hold(session))


def rotate(*, at_once: bool, actor: Actor) -> Rotation:
    """Publish the next key, unless one waits already; `at_once` lets it sign without waiting.

    Raises Unavailable.
    """
    with transaction() as session:
        keys = _advance(session, _hold(session))
        waiting = next((key for key in keys if key.state == State.PUBLISHED), None)
        key_id = waiting.id if waiting else _create(session, actor)
        signs_at = (waiting.created_at if waiting else clock.now()) + PUBLISHED_FOR
        if at_once:
            _activate(session, key_id, actor)
            signs_at = clock.now()
    return Rotation(key_id=key_id, signs_at=signs_at, is_new=waiting is None)


def revoke(*, key_id: UUID, actor: Actor) -> UUID:
    """Let a key verify nothing from now on, and return the one that signs now.

    In place of the active one the published one signs, or a new one. One that is revoked already
    stays as it is.

    Raises NoSuchSigningKey or Unavailable.
    """
    with transaction() as session:
        key = next((key for key in _hold(session) if key.id == key_id), None)
        if key is None:
            raise NoSuchSigningKey
        if key.state != State.REVOKED:
            _change(session, key_id, state=State.REVOKED, retired_at=clock.now())
            _record(session, Change.REVOKED, key_id, actor)
        keys = _advance(session, read(session))
    signing: UUID = next(key.id for key in keys if key.state == State.ACTIVE)
    return signing


def private_part(key: SigningKeyRow) -> bytes:
    """Return the private part of a stored key.

    Raises KeysUnusable.
    """
    version = key.master_key_version
    try:
        return master.decrypt(_LABEL, key.private_key, context=key.id.bytes, version=version)
    except (UnknownMasterKey, InvalidTag) as error:
        log.error(
            "signing_key_not_opened",
            setting="APP_AUTH_MASTER_KEYS",
            signing_key_id=str(key.id),
            master_key_version=version,
        )
        raise KeysUnusable from error


def _hold(session: Session) -> Sequence[SigningKeyRow]:
    """Keep everybody else from changing keys until the transaction ends, and read them."""
    session.execute(_LOCK, {"number": _LOCK_NUMBER})
    # A statement of its own, so that it sees what the previous holder of the lock has committed.
    return read(session)


def _due(keys: Sequence[Any]) -> list[Step]:
    now = clock.now()
    return [step for step in plan(keys) if step.at <= now]


def _advance(session: Session, keys: Sequence[SigningKeyRow]) -> Sequence[SigningKeyRow]:
    for key in filter(_is_outdated, keys):
        _reencrypt(session, key)
    # One step may make the next one due: the very first key is published and activated at once.
    while steps := _due(keys):
        for step in steps:
            _take(session, step)
        keys = read(session)
    return keys


def _take(session: Session, step: Step) -> None:
    if step.key_id is None:
        _create(session, _SERVICE)
    elif step.change == Change.ACTIVATED:
        _activate(session, step.key_id, _SERVICE)
    else:
        session.execute(delete(signing_keys).where(signing_keys.c.id == step.key_id))
        _record(session, Change.DELETED, step.key_id, _SERVICE)


def _create(session: Session, actor: Actor) -> UUID:
    """Make a key that is published and doesn't sign yet."""
    key_id, pair = ids.new(), Ed25519PrivateKey.generate()
    session.execute(
        insert(signing_keys).values(
            id=key_id,
            state=State.PUBLISHED,
            public_key=pair.public_key().public_bytes_raw(),
            private_key=master.encrypt(_LABEL, pair.private_bytes_raw(), context=key_id.bytes),
            master_key_version=master.current_version(),
            created_at=clock.now(),
        )
    )
    _record(session, Change.CREATED, key_id, actor)
    return key_id


def _activate(session: Session, key_id: UUID, actor: Actor) -> None:
    """Let a published key sign in place of the one that does."""
    now = clock.now()
    # First, because there is never more than one: an index holds that.
    session.execute(
        update(signing_keys)
        .where(signing_keys.c.state == State.ACTIVE)
        .values(state=State.RETIRING, retired_at=now)
    )
    _change(session, key_id, state=State.ACTIVE, activated_at=now)
    _record(session, Change.ACTIVATED, key_id, actor)


def _is_outdated(key: Any) -> bool:
    """Tell whether a private part is under a master key before the current one, and can be opened.

    By number, not by place in the setting: while a change of the setting is on its way, machines
    differ about which is the first one, and would encrypt anew what the others just have.
    """
    version = key.master_key_version
    is_older = version < master.current_version() and version in master.versions()
    return is_older and key.state != State.REVOKED


def _reencrypt(session: Session, key: SigningKeyRow) -> None:
    try:
        private = private_part(key)
    except KeysUnusable:
        return  # It's in the log; a key that can't be opened hinders no other one.
    _change(
        session,
        key.id,
        private_key=master.encrypt(_LABEL, private, context=key.id.bytes),
        master_key_version=master.current_version(),
    )
    _record(session, Change.REENCRYPTED, key.id, _SERVICE)


def _change(session: Session, key_id: UUID, **values: Any) -> None:
    session.execute(update(signing_keys).where(signing_keys.c.id == key_id).values(values))
