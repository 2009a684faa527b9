"""What the outside world is to be told: written in the transaction of the change, taken by workers.

The web process never calls the outside world, and sends no NOTIFY: one in each transaction would
serialize all commits. It leaves a row here, and a worker that finds it turns it into a job. Rows
with `data` are written by triggers, where some webhook waits for such an event.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    DateTime,
    Row,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Session

from app.platform import clock, ids
from app.platform.db import Base

outbox_events = Table(
    "outbox_events",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("topic", Text, nullable=False, index=True),
    Column("subject_id", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("data", JSON),
)

_INSERT = insert(outbox_events)
# In no order: commits don't come in that of ids or times. Rows that another worker has taken are
# passed over, and come back if that one dies before it commits.
_TAKE = (
    delete(outbox_events)
    .where(
        outbox_events.c.id.in_(
            select(outbox_events.c.id)
            .where(outbox_events.c.topic.in_(bindparam("topics", expanding=True)))
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
    )
    .returning(*outbox_events.c)
)


def emit(session: Session, *, topic: str, subject_id: UUID) -> None:
    """Leave an event, in the caller's transaction: it is there if and only if the change is.

    `topic` is `feature.what`; `subject_id` is the id of the row that has everything else.
    """
    session.execute(
        _INSERT,
        {"id": ids.new(), "topic": topic, "subject_id": subject_id, "created_at": clock.now()},
    )


def take(session: Session, *, topics: Iterable[str], most: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Delete up to `most` events of these topics, and return them.

    They are this caller's alone, and are back if the transaction doesn't commit.
    """
    return session.execute(_TAKE, {"topics": list(topics), "most": most}).all()
