"""Runs a keyed operation exactly once, and answers its repeats with the first answer.

`once` owns the transaction: claim, look-up, work, answer and key commit or vanish together, so
there is no lease and nothing to clean up after a crash. Keys belong to a user and count for 30
days. Success, 402, 404 and 409 are stored; anything else may be tried again with the same key.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import DateTime, LargeBinary, SmallInteger, Text, Uuid, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import Base, is_retryable, transaction
from app.platform.errors import (
    AppError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    Unavailable,
)

T = TypeVar("T")

LIFETIME = timedelta(days=30)
ATTEMPTS = 4
FINAL_STATUSES = (402, 404, 409)


class IdempotencyKey(Base):
    """A key that was used, what it was used for, and the answer it got."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int] = mapped_column(SmallInteger)
    content_type: Mapped[str] = mapped_column(Text)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    location: Mapped[str | None] = mapped_column(Text)
    etag: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


_keys = Base.metadata.tables[IdempotencyKey.__tablename__]
_random = secrets.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back to the client, as bytes, so that a repeat gets the same ones."""

    status: int
    body: bytes
    content_type: str = "application/json"
    location: str | None = None
    etag: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """A request with its key (None: not repeatable) and how this client reads a refusal.

    `fingerprint` is a hash of method, route, path parameters, query and canonical body.
    """

    key: str | None
    fingerprint: bytes
    refuse: Callable[[AppError], Answer]


def once(
    *,
    actor: Actor,
    request: Keyed,
    work: Callable[[Session], T],
    respond: Callable[[T], Answer],
) -> Answer:
    """Run `work` in a transaction of its own, exactly once for the actor's key.

    A repeat gets the stored answer. A twin of a running request is refused at once, without
    waiting on a connection. Deadlocks and serialization failures repeat the whole unit a few
    times; a COMMIT whose outcome is unknown is never repeated here: the client repeats its key.

    Raises IdempotencyInProgress, IdempotencyKeyReused, Unavailable and what `work` raises.
    """
    attempts = 0
    while True:
        try:
            return _attempt(actor=actor, request=request, work=work, respond=respond)
        except Unavailable as error:
            attempts += 1
            if attempts == ATTEMPTS or not is_retryable(error):
                raise
        # The transaction is over: nothing is locked while we wait for the other side to finish.
        time.sleep(_random.uniform(0, 0.02 * 2**attempts))


def _attempt(
    *,
    actor: Actor,
    request: Keyed,
    work: Callable[[Session], T],
    respond: Callable[[T], Answer],
) -> Answer:
    with transaction() as session:
        if request.key is None or actor.user_id is None:
            return respond(work(session))
        _claim(session, user_id=actor.user_id, key=request.key)
        stored = _look_up(session, user_id=actor.user_id, request=request)
        if stored is not None:
            return stored
        try:
            with session.begin_nested():
                answer = respond(work(session))
        except AppError as refusal:
            if refusal.status not in FINAL_STATUSES:
                raise
            answer = request.refuse(refusal)
        _store(session, user_id=actor.user_id, request=request, answer=answer)
        return answer


def _claim(session: Session, *, user_id: UUID, key: str) -> None:
    """Take the key until the transaction ends, or refuse at once.

    An `INSERT … ON CONFLICT` would wait for the first request instead, and a client that retries
    impatiently would fill the pool with waiting twins.
    """
    digest = hashlib.sha256(user_id.bytes + key.encode()).digest()
    claim = func.pg_try_advisory_xact_lock(int.from_bytes(digest[:8], "big", signed=True))
    if not session.scalar(select(claim)):
        raise IdempotencyInProgress


def _look_up(session: Session, *, user_id: UUID, request: Keyed) -> Answer | None:
    """Return the stored answer of an earlier request with this key.

    This is a statement after the claim, never part of it: a statement's snapshot is older than
    the lock it takes, and would miss what the previous holder has just committed.
    """
    row = session.execute(
        select(_keys).where(
            _keys.c.user_id == user_id,
            _keys.c.key == request.key,
            _keys.c.created_at > clock.now() - LIFETIME,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused
    return Answer(
        status=row.status,
        body=bytes(row.body),
        content_type=row.content_type,
        location=row.location,
        etag=row.etag,
        replayed=True,
    )


def _store(session: Session, *, user_id: UUID, request: Keyed, answer: Answer) -> None:
    values = {
        "fingerprint": request.fingerprint,
        "status": answer.status,
        "content_type": answer.content_type,
        "body": answer.body,
        "location": answer.location,
        "etag": answer.etag,
        "created_at": clock.now(),
    }
    statement = insert(_keys).values(user_id=user_id, key=request.key, **values)
    # A row can only be there when it is older than its lifetime: the look-up found none younger.
    session.execute(statement.on_conflict_do_update(index_elements=["user_id", "key"], set_=values))
