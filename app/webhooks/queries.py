"""What webhooks ask of the database and change there; one statement each."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from app.platform.db import reading
from app.webhooks.models import WebhookRow, webhook_deliveries, webhook_events, webhooks

# What the API shows of each.
SHOWN: Final = (
    webhooks.c.id,
    webhooks.c.url,
    webhooks.c.events,
    webhooks.c.description,
    webhooks.c.active,
    webhooks.c.created_at,
    webhooks.c.updated_at,
)
_d = webhook_deliveries.c
_DELIVERIES = select(
    _d.id,
    _d.event_id,
    webhook_events.c.type,
    webhook_events.c.subject_id,
    _d.status,
    _d.attempts,
    _d.next_try_at,
    _d.last_try_at,
    _d.last_status,
    _d.last_error,
    _d.created_at,
    _d.ended_at,
).join(webhook_events, webhook_events.c.id == _d.event_id)
# Names the advisory lock under which webhooks are counted; nothing else may use this number.
_LOCK_NUMBER = 4_201_974
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number")))
_COUNT = select(func.count()).select_from(webhooks)
_ONE = select(*SHOWN).where(webhooks.c.id == bindparam("webhook_id"))
_HOLD = (
    select(webhooks).where(webhooks.c.id == bindparam("webhook_id")).with_for_update(key_share=True)
)
_position = tuple_(webhooks.c.created_at, webhooks.c.id)
_delivery_position = tuple_(_d.created_at, _d.id)


def count_alone(session: Session) -> int:
    """Return how many webhooks there are, and let nobody else count until the transaction ends."""
    session.execute(_LOCK, {"number": _LOCK_NUMBER})
    # A statement of its own, so that it sees what the previous holder of the lock has committed.
    return session.execute(_COUNT).scalar_one()


def read(webhook_id: UUID) -> WebhookRow | None:
    """Return a webhook as shown, or None.

    Raises Unavailable.
    """
    with reading() as connection:
        return connection.execute(_ONE, {"webhook_id": webhook_id}).one_or_none()


def hold(session: Session, webhook_id: UUID) -> WebhookRow | None:
    """Lock a webhook until the transaction ends, and return all of it, or None."""
    return session.execute(_HOLD, {"webhook_id": webhook_id}).one_or_none()


def list_webhooks(
    *, after: tuple[Any, ...] | None, limit: int, offset: int
) -> Sequence[WebhookRow]:
    """Return the webhooks as shown, the newest first.

    Raises Unavailable.
    """
    query = select(*SHOWN).order_by(webhooks.c.created_at.desc(), webhooks.c.id.desc())
    if after is not None:
        query = query.where(_position < after)
    with reading() as connection:
        return connection.execute(query.limit(limit).offset(offset)).all()


def add(session: Session, **values: Any) -> WebhookRow:
    """Insert a webhook, and return it as shown."""
    return session.execute(insert(webhooks).values(values).returning(*SHOWN)).one()


def change(session: Session, webhook_id: UUID, values: Mapping[str, Any]) -> WebhookRow:
    """Write these columns of a webhook that the caller holds, and return it as shown."""
    statement = update(webhooks).where(webhooks.c.id == webhook_id).values(values)
    return session.execute(statement.returning(*SHOWN)).one()


def remove(session: Session, webhook_id: UUID) -> bool:
    """Delete a webhook with its deliveries, and tell whether it was there."""
    gone = session.execute(
        delete(webhooks).where(webhooks.c.id == webhook_id).returning(webhooks.c.id)
    )
    return gone.first() is not None


def list_deliveries(
    *,
    webhook_id: UUID,
    status: str | None,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> Sequence[WebhookRow]:
    """Return a webhook's deliveries as shown, the newest first.

    Raises Unavailable.
    """
    query = _DELIVERIES.where(_d.webhook_id == webhook_id)
    if status is not None:
        query = query.where(_d.status == status)
    if after is not None:
        query = query.where(_delivery_position < after)
    query = query.order_by(_d.created_at.desc(), _d.id.desc()).limit(limit).offset(offset)
    with reading() as connection:
        return connection.execute(query).all()


def is_delivery_of(*, delivery_id: UUID, webhook_id: UUID) -> bool:
    """Tell whether a delivery is this webhook's.

    Raises Unavailable.
    """
    query = select(_d.id).where(_d.id == delivery_id, _d.webhook_id == webhook_id)
    with reading() as connection:
        return connection.execute(query).first() is not None


def renew(
    session: Session, *, delivery_id: UUID, webhook_id: UUID, **values: Any
) -> WebhookRow | None:
    """Write these columns of a webhook's delivery, and return it as shown, or None."""
    mine = (_d.id == delivery_id, _d.webhook_id == webhook_id)
    session.execute(update(webhook_deliveries).where(*mine).values(values))
    return session.execute(_DELIVERIES.where(*mine)).one_or_none()
