"""Runs a keyed operation exactly once, and answers its repeats with the first answer.

`once` owns the transaction: claim, look-up, work, answer and key commit or vanish together, so
there is no lease and nothing to clean up after a crash. A refusal rolls the work back and is stored
in a transaction of its own, under a new claim. Keys belong to a user and count for 30
days. Success, 402, 404 and 409 are stored; anything else may be tried again with the same key.

What was asked is remembered as an HMAC, because it may hold a password: whoever steals the database
could guess that from a mere hash, a thousand million times a second.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import Base, is_retryable, reading, transaction
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

    __table_args__ = (
        Index(
            "ix_idempotency_keys_shown",
            text("substring(body, 8, 36)"),
            postgresql_where=text("etag IS NOT NULL"),
        ),
    )


_fingerprint_keys: Sequence[bytes] = ()
_keys = Base.metadata.tables[IdempotencyKey.__tablename__]
_random = secrets.SystemRandom()

# Built once: building a statement costs more than sending it.
_CLAIM = select(func.pg_try_advisory_xact_lock(bindparam("lock", type_=BigInteger)))
FIND = select(_keys).where(
    _keys.c.user_id == bindparam("user_id"),
    _keys.c.key == bindparam("key"),
    _keys.c.created_at > bindparam("oldest"),
)
_new = insert(_keys)
# A row can only be there when it is older than its lifetime: the look-up found none younger.
_STORE = _new.on_conflict_do_update(
    index_elements=["user_id", "key"],
    set_={
        column.name: _new.excluded[column.name]
        for column in _keys.columns
        if not column.primary_key
    },
)


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

    `content` is what makes it this request and no other: method, route, path parameters, query and
    body in one canonical form.
    """

    key: str | None
    content: bytes = field(repr=False)
    refuse: Callable[[AppError], Answer]


class Outdated(Unavailable):
    """What was prepared isn't true any more: it has to be prepared again."""


def use_keys(keys: Sequence[bytes]) -> None:
    """Tell requests apart by HMACs with the first key from now on, and by old ones with any."""
    global _fingerprint_keys
    _fingerprint_keys = keys


def once(
    *,
    actor: Actor,
    request: Keyed,
    work: Callable[[Session], T],
    respond: Callable[[T], Answer],
    prepare: Callable[[], None] | None = None,
) -> Answer:
    """Run `work` in a transaction of its own, exactly once for the actor's key.

    A repeat gets the stored answer. A twin of a running request is refused at once, without
    waiting on a connection. Deadlocks and serialization failures repeat the whole unit a few
    times; a COMMIT whose outcome is unknown is never repeated here: the client repeats its key.

    `prepare` is for what is too slow for a transaction, such as hashing. It runs before it, and not
    at all for a repeat. When `work` finds that it was in vain, it raises Outdated, and the whole
    unit is repeated too.

    Raises IdempotencyInProgress, IdempotencyKeyReused, Unavailable and what the two raise.
    """
    attempts = 0
    while True:
        try:
            return _attempt(
                actor=actor, request=request, work=work, respond=respond, prepare=prepare
            )
        except Unavailable as error:
            attempts += 1
            repeatable = isinstance(error, Outdated) or is_retryable(error)
            if attempts == ATTEMPTS or not repeatable:
                raise
        # The transaction is over: nothing is locked while we wait for the other side to finish.
        time.sleep(_random.uniform(0, 0.02 * 2**attempts))


def lock_of(user_id: UUID | None, key: str) -> int:
    """Return the number of the advisory lock that stands for a user's key."""
    digest = hashlib.sha256((user_id.bytes if user_id else b"") + key.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _attempt(
    *,
    actor: Actor,
    request: Keyed,
    work: Callable[[Session], T],
    respond: Callable[[T], Answer],
    prepare: Callable[[], None] | None,
) -> Answer:
    if request.key is None or actor.user_id is None:
        if prepare is not None:
            prepare()
        with transaction() as session:
            return respond(work(session))
    used = _UserKey(user_id=actor.user_id, key=request.key, request=request)
    try:
        stored = None if prepare is None else _prepared(used, prepare)
        if stored is not None:
            return stored
        with transaction() as session:
            stored = used.claim(session)
            if stored is not None:
                return stored
            answer = respond(work(session))
            used.store(session, answer)
            return answer
    except AppError as error:
        if error.status not in FINAL_STATUSES or isinstance(error, IdempotencyInProgress):
            raise
        refusal = request.refuse(error)
    # The work is rolled back as a whole, so a success pays for no savepoint (two of ten round
    # trips). Between the two transactions a twin may have run: then its answer is the first one.
    with transaction() as session:
        stored = used.claim(session)
        if stored is None:
            used.store(session, refusal)
        return stored or refusal


def _prepared(used: "_UserKey", prepare: Callable[[], None]) -> Answer | None:
    """Prepare, unless there is an answer already: then return that."""
    stored = used.look()
    if stored is None:
        try:
            prepare()
        except AppError:
            # A twin may have done the work meanwhile, and so have made what we prepare impossible:
            # its answer is ours.
            stored = used.look()
            if stored is None:
                raise
    return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class _UserKey:
    """A user's key and the request that it is used for."""

    user_id: UUID
    key: str
    request: Keyed

    def claim(self, session: Session) -> Answer | None:
        """Take the key until the transaction ends, and return the answer stored with it.

        Refuses at once while another transaction has the key. An `INSERT … ON CONFLICT` would
        wait for that one instead, and a client that retries impatiently would fill the pool.
        The look-up is a statement of its own: a statement's snapshot is older than the lock it
        takes, and would miss what the previous holder has just committed.

        Raises IdempotencyInProgress or IdempotencyKeyReused.
        """
        if not session.scalar(_CLAIM, {"lock": lock_of(self.user_id, self.key)}):
            raise IdempotencyInProgress
        return self._find(session.connection())

    def look(self) -> Answer | None:
        """Return the answer stored with the key, without taking the key.

        Raises IdempotencyKeyReused or Unavailable.
        """
        with reading() as connection:
            return self._find(connection)

    def _find(self, connection: Connection) -> Answer | None:
        oldest = clock.now() - LIFETIME
        row = connection.execute(
            FIND, {"user_id": self.user_id, "key": self.key, "oldest": oldest}
        ).one_or_none()
        if row is None:
            return None
        if row.fingerprint not in map(self._fingerprint, _fingerprint_keys):
            raise IdempotencyKeyReused
        return Answer(
            status=row.status,
            body=bytes(row.body),
            content_type=row.content_type,
            location=row.location,
            etag=row.etag,
            replayed=True,
        )

    def store(self, session: Session, answer: Answer) -> None:
        """Keep the answer for repeats; it commits together with the work, or not at all."""
        session.execute(
            _STORE,
            {
                "user_id": self.user_id,
                "key": self.key,
                "fingerprint": self._fingerprint(_fingerprint_keys[0]),
                "status": answer.status,
                "content_type": answer.content_type,
                "body": answer.body,
                "location": answer.location,
                "etag": answer.etag,
                "created_at": clock.now(),
            },
        )

    def _fingerprint(self, secret: bytes) -> bytes:
        # With the user, or it would show who has asked for the same: who has the same password.
        return hmac.digest(secret, self.user_id.bytes + self.request.content, "sha256")
