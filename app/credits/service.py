"""Use cases of credits: send, grant, charge, try out; look at balance, entries and transfers."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, or_, select
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.credits import ledger
from app.credits.errors import SelfGrant
from app.credits.ledger import Transfer
from app.credits.models import accounts, entries, transfers
from app.credits.values import TransferKind
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import reading, trial
from app.platform.errors import NotFound
from app.users import administration
from app.users import service as users

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


def transfer(
    session: Session, *, actor: Actor, to_user_id: UUID, amount: int, memo: str | None
) -> Transfer:
    """Move credits from the actor's account to another user's, in the caller's transaction.

    Raises SelfTransfer, RecipientNotFound, InsufficientCredits or BalanceLimit.
    """
    transfer_id = ids.new()
    audit.record(
        session,
        Action.TRANSFER_CREATED,
        actor=actor,
        subject_type="transfer",
        subject_id=transfer_id,
        details={"to_user_id": str(to_user_id), "amount": amount},
    )
    return ledger.post(
        session,
        transfer_id=transfer_id,
        kind=TransferKind.TRANSFER,
        from_user_id=actor.user_id,
        to_user_id=to_user_id,
        amount=amount,
        actor=actor,
        memo=memo,
    )


def dry_run(*, actor: Actor, to_user_id: UUID, amount: int, memo: str | None) -> Transfer:
    """Return the transfer that would be made now, and leave nothing behind.

    The real function decides, in a transaction that is rolled back: it can't judge differently.

    Raises SelfTransfer, RecipientNotFound, InsufficientCredits or BalanceLimit.
    """
    with trial() as session:
        return transfer(session, actor=actor, to_user_id=to_user_id, amount=amount, memo=memo)


def grant(session: Session, *, actor: Actor, user_id: UUID, amount: int, memo: str) -> Transfer:
    """Make new credits for a user, in the caller's transaction.

    The user is the audit event's subject: it is staff's doing, and shows in the user's history.

    Raises SelfGrant, StrongerUser, RecipientNotFound or BalanceLimit.
    """
    if actor.user_id == user_id:
        raise SelfGrant
    administration.refuse_stronger(actor, users.roles(session, user_id))
    transfer_id = ids.new()
    audit.record(
        session,
        Action.GRANT_CREATED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"transfer_id": str(transfer_id), "amount": amount},
    )
    return ledger.post(
        session,
        transfer_id=transfer_id,
        kind=TransferKind.GRANT,
        from_user_id=None,
        to_user_id=user_id,
        amount=amount,
        actor=actor,
        memo=memo,
    )


def charge(session: Session, *, actor: Actor, user_id: UUID, amount: int, memo: str) -> Transfer:
    """Take credits from a user for the house's revenue, in the caller's transaction.

    The user is the audit event's subject, as with a grant. Whoever may charge may charge themself.

    Raises StrongerUser, PayerNotFound or InsufficientCredits.
    """
    administration.refuse_stronger(actor, users.roles(session, user_id))
    transfer_id = ids.new()
    audit.record(
        session,
        Action.CHARGE_CREATED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"transfer_id": str(transfer_id), "amount": amount},
    )
    return ledger.post(
        session,
        transfer_id=transfer_id,
        kind=TransferKind.CHARGE,
        from_user_id=user_id,
        to_user_id=None,
        amount=amount,
        actor=actor,
        memo=memo,
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
