"""Use case of retention: deletes what has been kept long enough. Books and audit events stay.

Each rule says of a table what is old enough, by a time from the clock. Batches are small, and each
is a transaction of its own: nobody waits for one, and an interrupted run has done a part.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CursorResult,
    Delete,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    tuple_,
)

from app.audit.models import audit_events, audit_personal
from app.auth.models import login_sessions
from app.mail.models import mails
from app.mail.values import Kind, State
from app.platform import clock
from app.platform.counters import rate_limits
from app.platform.db import Base, transaction
from app.platform.idempotency import LIFETIME, IdempotencyKey
from app.platform.logging import get_logger
from app.support.models import exports
from app.support.values import AUDIT_PERSONAL_KEPT, LOGIN_SESSIONS_KEPT, MAILS_KEPT
from app.webhooks.models import webhook_events
from app.webhooks.values import EVENTS_KEPT

log = get_logger(__name__)

BATCH: Final = 1_000
_NOW: BindParameter[Any] = bindparam("now")
_BEFORE: BindParameter[Any] = bindparam("before")
_idempotency_keys = Base.metadata.tables[IdempotencyKey.__tablename__]

Rule: TypeAlias = tuple[Delete, timedelta]


def _rule(
    table: Table, over: ColumnElement[bool], *, oldest: ColumnElement[Any], kept: timedelta
) -> Rule:
    """Return the statement that deletes a batch of the rows that are over, the oldest first."""
    key = tuple_(*table.primary_key.columns)
    some = select(*table.primary_key.columns).where(over).order_by(oldest).limit(bindparam("most"))
    # The condition twice: a row that somebody has renewed meanwhile is looked at again by it.
    return delete(table).where(key.in_(some), over), kept


_ended = func.least(login_sessions.c.ended_at, login_sessions.c.expires_at)
RULES: Final[Mapping[str, Rule]] = {
    "idempotency_keys": _rule(
        _idempotency_keys,
        _idempotency_keys.c.created_at <= _BEFORE,
        oldest=_idempotency_keys.c.created_at,
        kept=LIFETIME,
    ),
    # None is over before it began: the second condition has an index, and the first has none.
    "login_sessions": _rule(
        login_sessions,
        and_(_ended <= _BEFORE, login_sessions.c.created_at <= _BEFORE),
        oldest=login_sessions.c.created_at,
        kept=LOGIN_SESSIONS_KEPT,
    ),
    # None whose link is good. One that nobody could send for so long says nothing any more, but for
    # the one that tells of a deletion, which erasure waits for.
    "mails": _rule(
        mails,
        and_(
            mails.c.created_at <= _BEFORE,
            or_(mails.c.state != State.WAITING, mails.c.kind != Kind.DELETION),
            or_(
                mails.c.used_at.is_not(None),
                mails.c.expires_at.is_(None),
                mails.c.expires_at <= _NOW,
            ),
        ),
        oldest=mails.c.created_at,
        kept=MAILS_KEPT,
    ),
    "exports": _rule(
        exports, exports.c.expires_at <= _BEFORE, oldest=exports.c.expires_at, kept=timedelta()
    ),
    "audit_personal": _rule(
        audit_personal,
        audit_personal.c.created_at <= _BEFORE,
        oldest=audit_personal.c.created_at,
        kept=AUDIT_PERSONAL_KEPT,
    ),
    # Written by a release that didn't note the time: there are fewer from day to day, then none.
    "audit_personal_undated": _rule(
        audit_personal,
        and_(
            audit_personal.c.created_at.is_(None),
            select(audit_events.c.id)
            .where(
                audit_events.c.id == audit_personal.c.event_id,
                audit_events.c.created_at <= _BEFORE,
            )
            .exists(),
        ),
        oldest=audit_personal.c.event_id,
        kept=AUDIT_PERSONAL_KEPT,
    ),
    # With their deliveries, those that still wait for a webhook that isn't active, too.
    "webhook_events": _rule(
        webhook_events,
        webhook_events.c.created_at <= _BEFORE,
        oldest=webhook_events.c.created_at,
        kept=EVENTS_KEPT,
    ),
    # Those who take something of a limit sweep as well; this is for when nobody comes any more.
    "rate_limits": _rule(
        rate_limits,
        rate_limits.c.ends_at <= _BEFORE,
        oldest=rate_limits.c.ends_at,
        kept=timedelta(),
    ),
}


def sweep() -> Mapping[str, int]:
    """Delete everything whose time is over, and return how much that was, by rule.

    Raises Unavailable; what was deleted until then is.
    """
    deleted = {name: _sweep(statement, kept) for name, (statement, kept) in RULES.items()}
    found = {name: number for name, number in deleted.items() if number}
    if found:
        log.info("retention_done", **found)
    return deleted


def _sweep(statement: Delete, kept: timedelta) -> int:
    now = clock.now()
    number = 0
    while True:
        batch = _delete(statement, now=now, before=now - kept)
        number += batch
        if batch < BATCH:
            return number


def _delete(statement: Delete, *, now: datetime, before: datetime) -> int:
    with transaction() as session:
        done = session.execute(statement, {"now": now, "before": before, "most": BATCH})
        # A DELETE without RETURNING always tells how many rows it deleted.
        return cast("CursorResult[Any]", done).rowcount
