"""Records what happened, in the transaction of the change, and reads it back."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, RowMapping, bindparam, insert, select, tuple_
from sqlalchemy.orm import Session

from app.audit.actions import Action
from app.audit.models import audit_events, audit_personal
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction

_SALT_BYTES = 16
# Header lines may be kilobytes; what tells two devices apart stands at the beginning.
_USER_AGENT_LENGTH = 200

_INSERT_EVENT = insert(audit_events).values(
    {
        column: bindparam(f"event_{column.name}", type_=column.type)
        for column in audit_events.columns
    }
)
_INSERT_PERSONAL = insert(audit_personal).values(
    {column: bindparam(f"personal_{column.name}") for column in audit_personal.columns}
)
# Both rows in one statement: one round trip, and neither is ever there without the other.
_INSERT_BOTH = _INSERT_PERSONAL.add_cte(_INSERT_EVENT.cte("event"))

_LIST = (
    select(
        audit_events.c.id,
        audit_events.c.action,
        audit_events.c.actor_id,
        audit_events.c.actor_kind,
        audit_events.c.subject_type,
        audit_events.c.subject_id,
        audit_events.c.request_id,
        audit_events.c.details,
        audit_events.c.created_at,
        audit_personal.c.data,
    )
    .outerjoin(audit_personal, audit_personal.c.event_id == audit_events.c.id)
    .order_by(audit_events.c.created_at.desc(), audit_events.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_position = tuple_(audit_events.c.created_at, audit_events.c.id)


def record(
    session: Session,
    action: Action,
    *,
    actor: Actor,
    subject_type: str,
    subject_id: UUID | None,
    details: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
) -> UUID:
    """Write an event, in the caller's transaction and one round trip, and return its id.

    `details` hold no personal data; `personal` does, and is kept apart together with the actor's
    address and user agent. Of what an API key does they say which one it was.
    """
    event, personal_part = _rows(
        action,
        actor=actor,
        subject_type=subject_type,
        subject_id=subject_id,
        details=details,
        personal=personal,
    )
    if personal_part is None:
        session.execute(_INSERT_EVENT, event)
    else:
        session.execute(_INSERT_BOTH, event | personal_part)
    event_id: UUID = event["event_id"]
    return event_id


def record_each(
    session: Session,
    action: Action,
    *,
    actor: Actor,
    subject_type: str,
    subjects: Mapping[UUID, Mapping[str, Any]],
) -> None:
    """Write one event for each subject, which has the id and the details, in two round trips."""
    rows = [
        _rows(
            action,
            actor=actor,
            subject_type=subject_type,
            subject_id=subject_id,
            details=details,
            personal=None,
        )
        for subject_id, details in subjects.items()
    ]
    session.execute(_INSERT_EVENT, [event for event, _ in rows])
    personal_parts = [personal_part for _, personal_part in rows if personal_part is not None]
    if personal_parts:
        session.execute(_INSERT_PERSONAL, personal_parts)


def _rows(
    action: Action,
    *,
    actor: Actor,
    subject_type: str,
    subject_id: UUID | None,
    details: Mapping[str, Any] | None,
    personal: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the parameters of an event and, when there is something personal, of that part."""
    event_id = ids.new()
    by_key = {} if actor.api_key_id is None else {"api_key_id": str(actor.api_key_id)}
    event: dict[str, Any] = {
        "event_id": event_id,
        "event_action": action.value,
        "event_actor_kind": "system" if actor.kind == "anonymous" else actor.kind,
        "event_actor_id": actor.user_id,
        "event_subject_type": subject_type,
        "event_subject_id": subject_id,
        "event_request_id": actor.request_id,
        "event_details": {**(details or {}), **by_key},
        "event_personal_digest": None,
        "event_created_at": clock.now(),
    }
    data = dict(personal or {})
    if actor.address is not None:
        data["address"] = actor.address
    if actor.user_agent is not None:
        data["user_agent"] = actor.user_agent[:_USER_AGENT_LENGTH]
    if not data:
        return event, None
    # Whose data it is: values are the subject's, a mere address is the actor's.
    about_user = subject_id if subject_type == "user" else None
    owner = about_user if personal or actor.user_id is None else actor.user_id
    salt, content = os.urandom(_SALT_BYTES), orjson.dumps(data)
    event["event_personal_digest"] = hashlib.sha256(salt + content).digest()
    return event, {
        "personal_event_id": event_id,
        "personal_subject_id": owner,
        "personal_salt": salt,
        "personal_data": content,
        "personal_created_at": event["event_created_at"],
    }


def record_denied(actor: Actor, permission: str, route: str) -> None:
    """Record that the actor called a staff route without its permission; own transaction.

    Raises Unavailable.
    """
    with transaction() as session:
        record(
            session,
            Action.ACCESS_DENIED,
            actor=actor,
            subject_type="route",
            subject_id=None,
            details={"permission": permission, "route": route},
        )


def record_signing_key(session: Session, change: str, key_id: UUID, actor: Actor) -> None:
    """Record, in the caller's transaction, what happened to a signing key: the event's verb."""
    record(
        session,
        Action(f"keys.signing_key.{change}"),
        actor=actor,
        subject_type="signing_key",
        subject_id=key_id,
    )


def list_events(
    *,
    actor_id: UUID | None = None,
    action: str | None = None,
    subject_id: UUID | None = None,
    request_id: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> list[dict[str, Any]]:
    """Return the events that match every filter given, newest first; both times are exclusive.

    What staff wrote as a reason stands in `details`, until it is erased with the subject's data.

    Raises Unavailable.
    """
    equal = {
        audit_events.c.actor_id: actor_id,
        audit_events.c.action: action,
        audit_events.c.subject_id: subject_id,
        audit_events.c.request_id: request_id,
    }
    wanted = [column == value for column, value in equal.items() if value is not None]
    if created_after is not None:
        wanted.append(audit_events.c.created_at > created_after)
    if created_before is not None:
        wanted.append(audit_events.c.created_at < created_before)
    return [
        {**row, "details": row["details"] | _reason(row), "address": _personal(row).get("address")}
        for row in _page(wanted, after=after, limit=limit, offset=offset)
    ]


def security_log(
    *, actor: Actor, after: tuple[Any, ...] | None, limit: int, offset: int
) -> list[dict[str, Any]]:
    """Return the events about the actor as a user may see them, newest first.

    `by` is "you", "staff" or "system"; the address is given for the user's own actions only.

    Raises Unavailable.
    """
    about = [audit_events.c.subject_type == "user", audit_events.c.subject_id == actor.user_id]
    return [
        {
            "id": row["id"],
            "action": row["action"],
            "by": _by(row, actor),
            "address": _personal(row).get("address") if row["actor_id"] == actor.user_id else None,
            "created_at": row["created_at"],
        }
        for row in _page(about, after=after, limit=limit, offset=offset)
    ]


def _page(
    wanted: Sequence[ColumnElement[bool]],
    *,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> Sequence[RowMapping]:
    statement = _LIST.where(*wanted) if wanted else _LIST
    if after is not None:
        statement = statement.where(_position < after)
    with reading() as connection:
        return connection.execute(statement, {"limit": limit, "offset": offset}).mappings().all()


def _personal(row: RowMapping) -> dict[str, Any]:
    """Return an event's personal part; nothing when it is erased or never had one."""
    data: dict[str, Any] = {} if row["data"] is None else orjson.loads(row["data"])
    return data


def _reason(row: RowMapping) -> dict[str, str]:
    return {name: text for name, text in _personal(row).items() if name == "reason"}


def _by(row: RowMapping, reader: Actor) -> str:
    if row["actor_id"] == reader.user_id:
        return "you"
    return "system" if row["actor_kind"] == "system" else "staff"
