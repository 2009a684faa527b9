"""Turns events of the outbox into deliveries, in one transaction: none is lost and none doubled."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, insert, select
from sqlalchemy.orm import Session

from app.platform import clock, ids, outbox
from app.platform.db import transaction
from app.webhooks.models import webhook_deliveries, webhook_events, webhooks
from app.webhooks.values import ALL_EVENTS, DeliveryStatus, Event

BATCH: Final = 500
# Held, so that none is deleted before its deliveries are there.
_ACTIVE = (
    select(webhooks.c.id, webhooks.c.events)
    .where(webhooks.c.active)
    .order_by(webhooks.c.id)
    .with_for_update(read=True, key_share=True)
)
# What a newer web process tells of is for a newer worker.
_TOPICS: Final = tuple(event.value for event in Event)


def take_in() -> int:
    """Turn up to BATCH events into deliveries, and return how many events there were.

    Each for the webhooks that are active and want it at this moment, maybe for none.

    Raises Unavailable.
    """
    with transaction() as session:
        events = outbox.take(session, topics=_TOPICS, most=BATCH)
        if events:
            _deliver(session, events)
    return len(events)


def _deliver(session: Session, events: Sequence[Row[Any]]) -> None:
    waiting, now = session.execute(_ACTIVE).all(), clock.now()
    deliveries = [
        {
            "id": ids.new(),
            "event_id": event.id,
            "webhook_id": webhook.id,
            "status": DeliveryStatus.PENDING,
            "next_try_at": now,
            "created_at": now,
        }
        for event in events
        for webhook in waiting
        if event.topic in webhook.events or ALL_EVENTS in webhook.events
    ]
    if not deliveries:
        return
    wanted = {delivery["event_id"] for delivery in deliveries}
    session.execute(
        insert(webhook_events),
        [
            {
                "id": event.id,
                "type": event.topic,
                "subject_id": event.subject_id,
                "data": event.data,
                "created_at": event.created_at,
            }
            for event in events
            if event.id in wanted
        ],
    )
    session.execute(insert(webhook_deliveries), deliveries)
