"""What an archive asks of the database: each list in pages, by the key of its last row."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    RowMapping,
    Select,
    bindparam,
    func,
    literal,
    select,
    tuple_,
    union,
)
from sqlalchemy.orm import Session

from app.audit.models import audit_events, audit_personal
from app.auth import device_names
from app.auth.models import api_keys, login_sessions
from app.credits.models import accounts, entries, holds, transfers
from app.mail.models import mails
from app.mail.values import Kind, State
from app.orders import order_queries
from app.orders.models import orders
from app.users.models import users

PAGE: Final = 1_000
# What says where somebody was and with which device: of whoever did it.
_OF_ACTOR: Final = frozenset({"address", "user_agent"})

_OF: BindParameter[Any] = bindparam("of_user")
_SENDER, _RECIPIENT = accounts.alias("sender"), accounts.alias("recipient")
_USER = select(
    users.c.id,
    users.c.email,
    users.c.email_verified,
    users.c.name,
    func.array_prepend("user", users.c.roles).label("roles"),
    users.c.status,
    users.c.created_at,
    users.c.updated_at,
).where(users.c.id == _OF)
_BALANCE = select(
    accounts.c.balance,
    accounts.c.held,
    (accounts.c.balance - accounts.c.held).label("available"),
).where(accounts.c.id == _OF)
_SESSIONS = select(
    login_sessions.c.id,
    login_sessions.c.device,
    login_sessions.c.address,
    login_sessions.c.created_at,
    login_sessions.c.last_used_at,
    login_sessions.c.expires_at,
    login_sessions.c.ended_at,
    login_sessions.c.ended_reason,
).where(login_sessions.c.user_id == _OF)
_KEYS = select(
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.scopes,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.last_used_at,
    api_keys.c.revoked_at,
).where(api_keys.c.user_id == _OF)
# Without those to addresses that were only asked for: in private mode a mail to one that somebody
# has is never sent, and that it is missing here would tell so.
_MAILS = select(
    mails.c.id, mails.c.kind, mails.c.email, mails.c.created_at, mails.c.settled_at.label("sent_at")
).where(mails.c.user_id == _OF, mails.c.state == State.SENT, mails.c.kind != Kind.CHANGE)
_ENTRIES = (
    select(
        entries.c.seq,
        entries.c.id,
        entries.c.amount,
        entries.c.balance_after,
        entries.c.created_at,
        entries.c.transfer_id,
        transfers.c.kind,
        _SENDER.c.user_id.label("from_user_id"),
        _RECIPIENT.c.user_id.label("to_user_id"),
        transfers.c.memo,
        transfers.c.reverses_id,
        transfers.c.order_id,
    )
    .join_from(entries, transfers)
    .join(_SENDER, _SENDER.c.id == transfers.c.from_account_id)
    .join(_RECIPIENT, _RECIPIENT.c.id == transfers.c.to_account_id)
    .where(entries.c.account_id == _OF)
)

_HOLDS = select(
    holds.c.id,
    holds.c.amount,
    holds.c.captured,
    holds.c.status,
    holds.c.memo,
    holds.c.created_at,
    holds.c.expires_at,
    holds.c.ended_at,
).where(holds.c.account_id == _OF)

_BOUGHT = order_queries.ALL.where(orders.c.user_id == _OF)

Page: TypeAlias = Callable[[ColumnElement[bool] | None], Select[*tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list of an archive: how a page of it is asked for, its key, and how a row is shown."""

    page: Page
    key: tuple[ColumnElement[Any], ...]
    shown: Callable[[RowMapping, UUID], Mapping[str, Any]]


def look_at_user(session: Session, user_id: UUID) -> RowMapping:
    """Return the user as the API shows one."""
    return session.execute(_USER, {"of_user": user_id}).mappings().one()


def look_at_balance(session: Session, user_id: UUID) -> RowMapping:
    """Return what the user's account holds."""
    return session.execute(_BALANCE, {"of_user": user_id}).mappings().one()


def walk(session: Session, listed: Listed, user_id: UUID) -> Iterator[Mapping[str, Any]]:
    """Give the rows of a list in the order of its key, PAGE of them in memory at a time."""
    last: RowMapping | None = None
    while True:
        values = None if last is None else [last[column.name] for column in listed.key]
        after = None if values is None else tuple_(*listed.key) > tuple_(*map(literal, values))
        found = session.execute(listed.page(after), {"of_user": user_id}).mappings().all()
        for row in found:
            yield listed.shown(row, user_id)
        if len(found) < PAGE:
            return
        last = found[-1]


def _plain(statement: Select[*tuple[Any, ...]], *key: ColumnElement[Any]) -> Page:
    def page(after: ColumnElement[bool] | None) -> Select[*tuple[Any, ...]]:
        some = statement if after is None else statement.where(after)
        return some.order_by(*key).limit(PAGE)

    return page


def _events(after: ColumnElement[bool] | None) -> Select[*tuple[Any, ...]]:
    """Return the events about the user and those by the user, each found by its own index."""
    key = (audit_events.c.created_at, audit_events.c.id)
    sides = (
        (audit_events.c.subject_type == "user", audit_events.c.subject_id == _OF),
        (audit_events.c.actor_id == _OF,),
    )
    found = union(
        *(_plain(select(*key).where(*side), *key)(after).subquery().select() for side in sides)
    ).subquery()
    return (
        select(
            audit_events,
            audit_personal.c.data,
            audit_personal.c.subject_id.label("personal_of"),
        )
        .join_from(audit_events, found, found.c.id == audit_events.c.id)
        .outerjoin(audit_personal, audit_personal.c.event_id == audit_events.c.id)
        .order_by(*key)
        .limit(PAGE)
    )


def _as_it_is(row: RowMapping, _user_id: UUID) -> Mapping[str, Any]:
    return dict(row)


def _session(row: RowMapping, _user_id: UUID) -> Mapping[str, Any]:
    return {**row, "device": device_names.in_words(row["device"]), "user_agent": row["device"]}


def _event(row: RowMapping, user_id: UUID) -> Mapping[str, Any]:
    """Show an event without what it says of anybody else: neither who staff is nor where."""
    own = row["actor_id"] == user_id
    personal = {} if row["data"] is None else orjson.loads(row["data"])
    about_user = row["personal_of"] == user_id
    return {
        "id": row["id"],
        "action": row["action"],
        "by": "you" if own else "system" if row["actor_kind"] == "system" else "staff",
        "subject_type": row["subject_type"],
        "subject_id": row["subject_id"],
        "details": row["details"],
        "personal": {
            name: value
            for name, value in personal.items()
            if (own if name in _OF_ACTOR else about_user)
        },
        "created_at": row["created_at"],
    }


_sessions_key = (login_sessions.c.created_at, login_sessions.c.id)
_keys_key = (api_keys.c.created_at, api_keys.c.id)
_holds_key = (holds.c.created_at, holds.c.id)
_mails_key = (mails.c.created_at, mails.c.id)
LISTS: Final[Mapping[str, Listed]] = {
    "login_sessions": Listed(
        page=_plain(_SESSIONS, *_sessions_key), key=_sessions_key, shown=_session
    ),
    "api_keys": Listed(page=_plain(_KEYS, *_keys_key), key=_keys_key, shown=_as_it_is),
    "mails": Listed(page=_plain(_MAILS, *_mails_key), key=_mails_key, shown=_as_it_is),
    "audit_events": Listed(
        page=_events, key=(audit_events.c.created_at, audit_events.c.id), shown=_event
    ),
    "orders": Listed(
        page=_plain(_BOUGHT, orders.c.created_at, orders.c.id),
        key=(orders.c.created_at, orders.c.id),
        shown=_as_it_is,
    ),
    "holds": Listed(page=_plain(_HOLDS, *_holds_key), key=_holds_key, shown=_as_it_is),
    "entries": Listed(page=_plain(_ENTRIES, entries.c.seq), key=(entries.c.seq,), shown=_as_it_is),
}
