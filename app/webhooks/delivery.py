"""Delivers: takes what is due for a webhook, tries it, and notes what came of that.

Taking puts off when a delivery is due, for longer than a try lasts, and noting asks for that very
moment: so nobody else tries it meanwhile, somebody does if this process dies, and what comes too
late, after a replay or to another process, is dropped.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.orm import Session

from app.audit.actions import Action
from app.platform import clock, sentry, tracing
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.logging import get_logger
from app.platform.settings.project import VERSION
from app.webhooks import queries, service, signatures, transport
from app.webhooks.destinations import NoWay
from app.webhooks.models import webhook_deliveries, webhook_events, webhooks
from app.webhooks.signatures import SecretUnreadable
from app.webhooks.values import GONE, JITTER, LEASE, WAITS, DeliveryStatus, Failure

log = get_logger(__name__)
_SERVICE = Actor(kind="system")
_USER_AGENT: Final = f"bursar/{VERSION}"
_random = secrets.SystemRandom()

_d, _e = webhook_deliveries.c, webhook_events.c
_IS_DUE = (_d.status == DeliveryStatus.PENDING, _d.next_try_at <= bindparam("now"))
_WITH_SOMETHING_DUE = select(webhooks.c.id).where(
    webhooks.c.active,
    select(_d.id).where(_d.webhook_id == webhooks.c.id, *_IS_DUE).exists(),
)
_TAKE = (
    update(webhook_deliveries)
    .where(
        _d.id.in_(
            select(_d.id)
            .where(_d.webhook_id == bindparam("of_webhook"), *_IS_DUE)
            .order_by(_d.next_try_at)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
    )
    .values(next_try_at=bindparam("until"))
    .returning(_d.id, _d.event_id, _d.attempts)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One try of one delivery: what is sent, and until when nobody else tries it."""

    delivery_id: UUID
    webhook_id: UUID
    attempts: int
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a try: the answer's status and the pause it asks for, or why there was none."""

    at: datetime
    status: int | None = None
    pause: timedelta = timedelta()
    failure: Failure | None = None

    @property
    def is_good(self) -> bool:
        """Tell whether the endpoint has taken the message."""
        return self.status is not None and 200 <= self.status < 300


def waiting() -> Sequence[UUID]:
    """Return the active webhooks for which something is due.

    Raises Unavailable.
    """
    with reading() as connection:
        return connection.scalars(_WITH_SOMETHING_DUE, {"now": clock.now()}).all()


def take(webhook_id: UUID, *, most: int) -> list[Message]:
    """Return up to `most` messages that are due for a webhook, for this caller to try.

    Signed, with the time of now. What can't be signed is noted, and isn't among them.

    Raises Unavailable.
    """
    now = clock.now()
    until = now + LEASE
    with transaction() as session:
        webhook = session.execute(
            select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.active)
        ).one_or_none()
        if webhook is None:
            return []
        taken = session.execute(
            _TAKE, {"of_webhook": webhook_id, "now": now, "most": most, "until": until}
        ).all()
        events = _events(session, {delivery.event_id for delivery in taken})
        messages = []
        for delivery in taken:
            try:
                messages.append(
                    _message(webhook, delivery, events[delivery.event_id], now=now, until=until)
                )
            except SecretUnreadable:
                outcome = Outcome(at=now, failure=Failure.UNSIGNED)
                _note(session, delivery.id, delivery.attempts, until, outcome)
    return messages


def attempt(message: Message) -> Outcome:
    """Send a message, and return what came of it; takes a few seconds, with no transaction open."""
    facts: dict[str, str | int | None] = {"bursar.attempts": message.attempts + 1}
    with tracing.job("webhooks.deliver", sent=None, facts=facts):
        outcome = _tried(message)
        facts["http.response.status_code"] = outcome.status
        facts["error.type"] = outcome.failure
    return outcome


def _tried(message: Message) -> Outcome:
    at = clock.now()
    # Who takes it can find its try among our traces.
    place = tracing.traceparent()
    headers = message.headers if place is None else message.headers | {"traceparent": place}
    try:
        answer = transport.post(message.url, headers=headers, body=message.body)
    except NoWay as fault:
        return Outcome(at=at, failure=fault.failure)
    except Exception as fault:
        # A mistake of ours counts as a try like any other: else it would be met for ever, and
        # every other message of the lane with it.
        log.error("webhook_try_failed", delivery_id=str(message.delivery_id), exc_info=fault)
        sentry.capture(fault, request_id=None)
        return Outcome(at=at, failure=Failure.INTERNAL)
    return Outcome(at=at, status=answer.status, pause=answer.pause)


def note(tried: Sequence[tuple[Message, Outcome]]) -> None:
    """Note what came of tries, in one transaction: delivered, dead, or due again later.

    An endpoint that says it is gone has its webhook switched off.

    Raises Unavailable.
    """
    with transaction() as session:
        # Before its deliveries, as everywhere: who deletes a webhook locks them in this order.
        for webhook_id in {message.webhook_id for message, out in tried if out.status == GONE}:
            _switch_off(session, webhook_id)
        for message, outcome in tried:
            _note(session, message.delivery_id, message.attempts, message.until, outcome)
    for message, outcome in tried:
        if not outcome.is_good:
            log.warning(
                "webhook_not_delivered",
                webhook_id=str(message.webhook_id),
                delivery_id=str(message.delivery_id),
                attempts=message.attempts + 1,
                status=outcome.status,
                reason=outcome.failure,
            )


def _events(session: Session, event_ids: set[UUID]) -> dict[UUID, Row[Any]]:
    found = session.execute(select(webhook_events).where(_e.id.in_(event_ids))).all()
    return {event.id: event for event in found}


def _message(
    webhook: Row[Any], delivery: Row[Any], event: Row[Any], *, now: datetime, until: datetime
) -> Message:
    """Return a delivery as it is sent at this moment.

    Raises SecretUnreadable.
    """
    told = {"type": event.type, "timestamp": event.created_at, "data": event.data}
    body = orjson.dumps(told, option=orjson.OPT_UTC_Z)
    message_id = str(event.id)
    return Message(
        delivery_id=delivery.id,
        webhook_id=webhook.id,
        attempts=delivery.attempts,
        url=webhook.url,
        headers={
            "Content-Type": "application/json",
            "User-Agent": _USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signatures.sign(
                webhook, message_id=message_id, body=body, now=now
            ),
        },
        body=body,
        until=until,
    )


def _note(
    session: Session, delivery_id: UUID, attempts: int, until: datetime, outcome: Outcome
) -> None:
    done = attempts + 1
    values: dict[str, Any] = {
        "attempts": done,
        "last_try_at": outcome.at,
        "last_status": outcome.status,
        "last_error": outcome.failure,
    }
    if outcome.is_good or outcome.status == GONE or done >= len(WAITS):
        status = DeliveryStatus.DELIVERED if outcome.is_good else DeliveryStatus.DEAD
        values |= {"status": status, "next_try_at": None, "ended_at": clock.now()}
    else:
        values["next_try_at"] = clock.now() + _wait(done, outcome.pause)
    session.execute(
        update(webhook_deliveries)
        .where(_d.id == delivery_id, _d.next_try_at == until)
        .values(values)
    )


def _wait(attempts: int, pause: timedelta) -> timedelta:
    """Return how long to wait after so many tries, when the endpoint asks for a pause."""
    return max(WAITS[attempts], pause) * (1 + _random.uniform(0, JITTER))


def _switch_off(session: Session, webhook_id: UUID) -> None:
    held = queries.hold(session, webhook_id)
    if held is None or not held.active:
        return
    queries.change(session, webhook_id, {"active": False, "updated_at": clock.now()})
    service.record(session, Action.WEBHOOK_SWITCHED_OFF, webhook_id, actor=_SERVICE)
