"""Use cases of exports: ask for one, have it made in the background, fetch it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.platform import clock, ids, outbox, ratelimit
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.errors import NotFound
from app.platform.ratelimit import Limit
from app.support import archive
from app.support.models import exports
from app.support.values import EXPORT_KEPT, EXPORTS_A_DAY, ExportStatus

# What the outbox calls an export that wants to be made.
TOPIC: Final = "support.export_requested"
BY_USER: Final = Limit(name="export", amount=EXPORTS_A_DAY, seconds=24 * 60 * 60)

_PENDING = (exports.c.user_id == bindparam("of_user"), exports.c.made_at.is_(None))
_FIND_PENDING = select(exports.c.id).where(*_PENDING, exports.c.expires_at > bindparam("now"))
# One that could never be made keeps nobody from asking again.
_FORGET_OLD = delete(exports).where(*_PENDING, exports.c.expires_at <= bindparam("now"))
_INSERT = insert(exports).on_conflict_do_nothing().returning(exports.c.id)
_FETCH = select(exports.c.content, exports.c.made_at).where(
    exports.c.id == bindparam("export_id"),
    exports.c.user_id == bindparam("of_user"),
    exports.c.expires_at > bindparam("now"),
)
_OWNER = select(exports.c.user_id).where(
    exports.c.id == bindparam("export_id"), exports.c.made_at.is_(None)
)
_KEEP = update(exports).where(exports.c.id == bindparam("export_id"), exports.c.made_at.is_(None))
_GIVE_UP = delete(exports).where(
    exports.c.id == bindparam("export_id"), exports.c.made_at.is_(None)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export as its owner sees it; the packed archive and its time are there once it is ready.

    What `archive.unpacked` makes of the content is JSON.
    """

    id: UUID
    status: ExportStatus
    content: bytes | None = field(default=None, repr=False)
    made_at: datetime | None = None


def prepare(*, actor: Actor) -> None:
    """Count an export that would be made, before the transaction that asks for it.

    Raises TooManyRequests or Unavailable.
    """
    with reading() as connection:
        pending = connection.execute(_FIND_PENDING, _of(actor)).first()
    if pending is None:
        ratelimit.take(BY_USER, actor.user_id)


def request(session: Session, *, actor: Actor) -> Export:
    """Ask for an export of the actor's data, in the caller's transaction; a worker makes it.

    While one is being made it is that one.
    """
    now = clock.now()
    values = {"id": ids.new(), "user_id": actor.user_id, "created_at": now}
    made: UUID | None = None
    while made is None:
        session.execute(_FORGET_OLD, _of(actor))
        made = session.scalar(_INSERT, values | {"expires_at": now + EXPORT_KEPT})
        pending = None if made else session.scalar(_FIND_PENDING, _of(actor))
        if pending is not None:
            return Export(id=pending, status=ExportStatus.PENDING)
        # Without either, the one that was in the way has just been made: the next try finds none.
    audit.record(
        session,
        Action.EXPORT_REQUESTED,
        actor=actor,
        subject_type="user",
        subject_id=actor.user_id,
        details={"export_id": str(made)},
    )
    outbox.emit(session, topic=TOPIC, subject_id=made)
    return Export(id=made, status=ExportStatus.PENDING)


def fetch(export_id: UUID, *, actor: Actor) -> Export:
    """Return an export of the actor's own, for seven days after it was made.

    Raises NotFound or Unavailable.
    """
    with reading() as connection:
        found = connection.execute(_FETCH, {"export_id": export_id, **_of(actor)}).one_or_none()
    if found is None:
        raise NotFound
    if found.made_at is None:
        return Export(id=export_id, status=ExportStatus.PENDING)
    return Export(
        id=export_id,
        status=ExportStatus.READY,
        content=bytes(found.content),
        made_at=found.made_at,
    )


def make(export_id: UUID) -> None:
    """Make the archive of an export, and keep it for its owner.

    Of one that is made, or that is gone with its user, nothing happens.

    Raises Unavailable: then it is to be tried again.
    """
    with reading() as connection:
        user_id = connection.scalar(_OWNER, {"export_id": export_id})
    if user_id is None:
        return
    content, now = archive.make(user_id), clock.now()
    kept = _KEEP.values(content=content, made_at=now, expires_at=now + EXPORT_KEPT)
    with transaction() as session:
        session.execute(kept, {"export_id": export_id})


def give_up(export_id: UUID) -> None:
    """Forget an export that couldn't be made, after its last try: its owner may ask anew.

    Raises Unavailable.
    """
    with transaction() as session:
        session.execute(_GIVE_UP, {"export_id": export_id})


def _of(actor: Actor) -> dict[str, Any]:
    return {"of_user": actor.user_id, "now": clock.now()}
