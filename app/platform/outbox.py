"""What the outside world is to be told: written in the transaction of the change, taken by workers.

The web process never calls the outside world, and sends no NOTIFY: one in each transaction would
serialize all commits. It leaves a row here, and a worker that finds it turns it into a job. Rows
with `data` are written by triggers, where some webhook waits for such an event.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
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
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Session

from app.platform import clock, ids, tracing
from app.platform.db import Base, reading
from app.platform.gauges import Gauge

# More aren't counted: a scrape has a second, also when nobody has taken any for weeks.
MOST_COUNTED: Final = 100_000

outbox_events = Table(
    "outbox_events",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("topic", Text, nullable=False, index=True),
    Column("subject_id", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("data", JSON),
    Column("traceparent", Text),
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
_COUNTED = select(outbox_events.c.created_at).limit(bindparam("most")).subquery()
_WAITING = select(
    func.count().label("number"), func.min(_COUNTED.c.created_at).label("since")
).select_from(_COUNTED)


def emit(session: Session, *, topic: str, subject_id: UUID) -> None:
    """Leave an event, in the caller's transaction: it is there if and only if the change is.

    `topic` is `feature.what`; `subject_id` is the id of the row that has everything else. What
    comes of it belongs to the trace that the caller is in.
    """
    event = {
        "id": ids.new(),
        "topic": topic,
        "subject_id": subject_id,
        "created_at": clock.now(),
        "traceparent": tracing.traceparent(),
    }
    session.execute(_INSERT, event)


def take(session: Session, *, topics: Iterable[str], most: int) -> Sequence[Row[*tuple[Any, ...]]]:
    """Delete up to `most` events of these topics, and return them.

    They are this caller's alone, and are back if the transaction doesn't commit.
    """
    return session.execute(_TAKE, {"topics": list(topics), "most": most}).all()


def gauges() -> Sequence[Gauge]:
    """Return how many events wait and how long the oldest does, as numbers for the metrics.

    Raises Unavailable.
    """
    now = clock.now()
    with reading() as connection:
        row = connection.execute(_WAITING, {"most": MOST_COUNTED}).one()
    age = (now - row.since).total_seconds() if row.since else 0
    return [
        Gauge(
            "outbox_events_waiting",
            f"Events that no worker has taken yet; {MOST_COUNTED} stands for more as well.",
            row.number,
        ),
        Gauge("outbox_oldest_age_seconds", "How long the oldest of them waits.", max(age, 0)),
    ]
