"""What accounts, entries and transfers look like to who may see them."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, or_, select
from sqlalchemy.orm import Session

from app.credits.ledger import Transfer
from app.credits.models import accounts, entries, transfers
from app.platform.actor import Actor
from app.platform.db import reading, snapshot
from app.platform.errors import NotFound

LATEST = 20

_BALANCE = select(
    accounts.c.balance,
    accounts.c.held,
    (accounts.c.balance - accounts.c.held).label("available"),
)
_ENTRIES = select(
    entries.c.id,
    entries.c.transfer_id,
    transfers.c.kind,
    entries.c.amount,
    entries.c.balance_after,
    transfers.c.memo,
    entries.c.created_at,
    entries.c.seq,
).join_from(entries, transfers)
_SENDER, _RECIPIENT = accounts.alias("sender"), accounts.alias("recipient")
# A house account has no user: that is how its id stays inside.
_TRANSFERS = (
    select(
        transfers.c.id,
        transfers.c.kind,
        _SENDER.c.user_id.label("from_user_id"),
        _RECIPIENT.c.user_id.label("to_user_id"),
        transfers.c.amount,
        transfers.c.memo,
        transfers.c.reverses_id,
        transfers.c.order_id,
        transfers.c.created_at,
    )
    .join_from(transfers, _SENDER, _SENDER.c.id == transfers.c.from_account_id)
    .join(_RECIPIENT, _RECIPIENT.c.id == transfers.c.to_account_id)
)


def balance(*, actor: Actor) -> RowMapping:
    """Return `balance`, `held` and `available` of the actor's account."""
    query = _BALANCE.where(accounts.c.id == actor.user_id)
    with reading() as connection:
        return connection.execute(query).mappings().one()


def list_entries(
    *, actor: Actor, after: tuple[Any, ...] | None, limit: int, offset: int
) -> Sequence[RowMapping]:
    """Return entries of the actor's account, the last posted first; `after` has the last `seq`."""
    query = _ENTRIES.where(entries.c.account_id == actor.user_id)
    if after is not None:
        query = query.where(entries.c.seq < after[0])
    query = query.order_by(entries.c.seq.desc()).limit(limit).offset(offset)
    with reading() as connection:
        return connection.execute(query).mappings().all()


def get_transfer(*, actor: Actor, transfer_id: UUID) -> Transfer:
    """Return a transfer to a party of it, or to staff with `credits:read`.

    Raises NotFound, for strangers as for ids that don't exist.
    """
    query = _TRANSFERS.where(transfers.c.id == transfer_id)
    if not actor.may("credits:read"):
        query = query.where(
            or_(
                transfers.c.from_account_id == actor.user_id,
                transfers.c.to_account_id == actor.user_id,
            )
        )
    with reading() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound
    return Transfer(**row)


def account_of(*, user_id: UUID) -> Mapping[str, Any]:
    """Return what a user's account holds and its latest entries, all of one moment, for staff.

    Raises NotFound.
    """
    latest = (
        _ENTRIES.where(entries.c.account_id == user_id).order_by(entries.c.seq.desc()).limit(LATEST)
    )
    with snapshot() as session:
        held = session.execute(_BALANCE.where(accounts.c.user_id == user_id)).mappings().first()
        if held is None:
            raise NotFound
        return {**held, "entries": session.execute(latest).mappings().all()}


def look_for_transfer(transfer_id: UUID) -> None:
    """Make sure that a transfer is there, before staff's request is read any further.

    Raises NotFound.
    """
    with reading() as connection:
        found = connection.execute(select(transfers.c.id).where(transfers.c.id == transfer_id))
        if found.first() is None:
            raise NotFound


def transfer_for_staff(session: Session, transfer_id: UUID) -> RowMapping:
    """Return a transfer with both its accounts, in the caller's transaction.

    Raises NotFound.
    """
    query = _TRANSFERS.add_columns(transfers.c.from_account_id, transfers.c.to_account_id)
    row = session.execute(query.where(transfers.c.id == transfer_id)).mappings().one_or_none()
    if row is None:
        raise NotFound
    return row
