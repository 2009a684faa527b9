"""Use cases of webhooks: make one, look at them, change, rotate, delete; replay a delivery.

No answer with a secret is stored, so making and rotating can't be repeated by a key.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.errors import NotFound
from app.webhooks import destinations, queries, signatures
from app.webhooks.errors import TooManyWebhooks, WebhookInactive
from app.webhooks.models import WebhookRow
from app.webhooks.signatures import SecretUnreadable
from app.webhooks.values import OVERLAP, WEBHOOKS_MOST, DeliveryStatus


def create(
    *, actor: Actor, url: str, events: Iterable[str], description: str | None, active: bool
) -> dict[str, Any]:
    """Make a webhook, and return it with the text of its secret.

    The text is in `secret` and can't be had again.

    Raises Invalid, TooManyWebhooks or Unavailable.
    """
    destinations.check(url)
    webhook_id, secret, now = ids.new(), signatures.make(), clock.now()
    with transaction() as session:
        if queries.count_alone(session) >= WEBHOOKS_MOST:
            raise TooManyWebhooks
        made = queries.add(
            session,
            id=webhook_id,
            url=url,
            events=_stored(events),
            description=description,
            active=active,
            created_at=now,
            updated_at=now,
            **signatures.sealed(webhook_id, secret),
        )
        record(session, Action.WEBHOOK_CREATED, webhook_id, actor=actor, events=made.events)
    return {**made._mapping, "secret": signatures.text(secret)}


def get(webhook_id: UUID) -> WebhookRow:
    """Return a webhook.

    Raises NotFound or Unavailable.
    """
    found = queries.read(webhook_id)
    if found is None:
        raise NotFound
    return found


def change(
    session: Session, *, actor: Actor, webhook_id: UUID, changes: Mapping[str, Any]
) -> WebhookRow:
    """Change a webhook, in the caller's transaction, and return it; what is the same stays.

    Deliveries that wait go where it leads then.

    Raises Invalid or NotFound.
    """
    held = _hold(session, webhook_id)
    wanted = dict(changes)
    if "url" in wanted:
        destinations.check(wanted["url"])
    if "events" in wanted:
        wanted["events"] = _stored(wanted["events"])
    fields = sorted(name for name, value in wanted.items() if value != getattr(held, name))
    if not fields:
        return held
    changed = queries.change(session, webhook_id, {**wanted, "updated_at": clock.now()})
    record(session, Action.WEBHOOK_CHANGED, webhook_id, actor=actor, fields=fields)
    return changed


def rotate(*, actor: Actor, webhook_id: UUID) -> dict[str, Any]:
    """Give a webhook another secret, and return it with the text of that in `secret`.

    The secret until now signs beside it for a day; the one before that ends at once. One that
    can't be opened any more ends too.

    Raises NotFound or Unavailable.
    """
    secret, now = signatures.make(), clock.now()
    with transaction() as session:
        held = _hold(session, webhook_id)
        try:
            before = signatures.opened(held)[0]
        except SecretUnreadable:
            before = None
        values = {
            **signatures.sealed(webhook_id, secret, before),
            "previous_until": before and now + OVERLAP,
            "updated_at": now,
        }
        rotated = queries.change(session, webhook_id, values)
        record(session, Action.WEBHOOK_ROTATED, webhook_id, actor=actor)
    return {**rotated._mapping, "secret": signatures.text(secret)}


def delete(session: Session, *, actor: Actor, webhook_id: UUID) -> None:
    """Delete a webhook and what waits for it, in the caller's transaction.

    Raises NotFound.
    """
    if not queries.remove(session, webhook_id):
        raise NotFound
    record(session, Action.WEBHOOK_DELETED, webhook_id, actor=actor)


def look_for_delivery(webhook_id: UUID, delivery_id: UUID) -> None:
    """Make sure that a webhook has this delivery, before a request is read any further.

    Raises NotFound or Unavailable.
    """
    if not queries.is_delivery_of(delivery_id=delivery_id, webhook_id=webhook_id):
        raise NotFound


def replay(session: Session, *, actor: Actor, webhook_id: UUID, delivery_id: UUID) -> WebhookRow:
    """Begin a delivery's tries anew, in the caller's transaction, whatever has become of it.

    The first is due at once. Returns the delivery.

    Raises NotFound or WebhookInactive.
    """
    if not _hold(session, webhook_id).active:
        raise WebhookInactive
    renewed = queries.renew(
        session,
        delivery_id=delivery_id,
        webhook_id=webhook_id,
        status=DeliveryStatus.PENDING,
        attempts=0,
        next_try_at=clock.now(),
        ended_at=None,
    )
    if renewed is None:
        raise NotFound
    audit.record(
        session,
        Action.DELIVERY_REPLAYED,
        actor=actor,
        subject_type="webhook_delivery",
        subject_id=delivery_id,
        details={"webhook_id": str(webhook_id)},
    )
    return renewed


def record(
    session: Session, action: Action, webhook_id: UUID, *, actor: Actor, **details: Any
) -> None:
    """Record what happened to a webhook. Its address isn't told: it may hold a credential."""
    audit.record(
        session,
        action,
        actor=actor,
        subject_type="webhook",
        subject_id=webhook_id,
        details=details,
    )


def _hold(session: Session, webhook_id: UUID) -> WebhookRow:
    held = queries.hold(session, webhook_id)
    if held is None:
        raise NotFound
    return held


def _stored(events: Iterable[str]) -> list[str]:
    return sorted(set(events))
