"""Moves credits from account to account: the only caller of the functions that do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, Row, Text, Uuid, bindparam, func, select
from sqlalchemy.orm import Session

from app.credits.functions import ASKED, TIME, asked, call, execute
from app.credits.models import transfers
from app.credits.tallies import tell_later
from app.credits.values import ISSUANCE_ID, REVENUE_ID, TransferKind
from app.platform import clock, ids, tracing
from app.platform.actor import Actor

_IDS, _AMOUNTS, _TEXTS = ARRAY(Uuid), ARRAY(BigInteger), ARRAY(Text)


_POST = call(
    "post_transfer_v3",
    {
        "id": Uuid(), "kind": Text(), "from_account_id": Uuid(), "to_account_id": Uuid(),
        "amount": BigInteger(), **ASKED, "memo": Text(), "created_at": TIME,
        "debit_id": Uuid(), "credit_id": Uuid(), "order_id": Uuid(), "reverses_id": Uuid(),
        "hold_id": Uuid(),
    },
    list(transfers.c),
)  # fmt: skip
_POST_BATCH = call(
    "post_batch_v1",
    {
        "ids": _IDS, "from_account_id": Uuid(), "to_account_ids": _IDS, "amounts": _AMOUNTS,
        "memos": _TEXTS, "debit_ids": _IDS, "credit_ids": _IDS, **ASKED, "created_at": TIME,
    },
    list(transfers.c),
)  # fmt: skip
_LOCK = call(
    "lock_account_v1",
    {"user_id": Uuid()},
    [Column("balance", BigInteger), Column("held", BigInteger)],
)
_FOLD = select(func.fold_deltas_v2(bindparam("most")))

# Where credits of these kinds go to or come from; of the others it is issuance.
_REVENUE = frozenset({TransferKind.CHARGE, TransferKind.PAYMENT, TransferKind.REFUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One movement of credits, as it is answered. The user of a house account is None."""

    id: UUID
    kind: str
    from_user_id: UUID | None
    to_user_id: UUID | None
    amount: int
    memo: str | None
    reverses_id: UUID | None
    order_id: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One transfer of a batch: to whom, how much, and under which id."""

    transfer_id: UUID
    to_user_id: UUID
    amount: int
    memo: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What a locked account holds, and how much of it is held back."""

    balance: int
    held: int


@tracing.step("transfer")
def post(
    session: Session,
    *,
    transfer_id: UUID,
    kind: TransferKind,
    from_user_id: UUID | None,
    to_user_id: UUID | None,
    amount: int,
    actor: Actor,
    memo: str | None,
    order_id: UUID | None = None,
    reverses_id: UUID | None = None,
    house_id: UUID | None = None,
) -> Transfer:
    """Move credits in the caller's transaction, in one round trip.

    None is the house: revenue for charges, payments and refunds, else issuance, unless `house_id`
    says which. It is never locked; the users' accounts stay so until the transaction ends, and this
    belongs at its end. All or nothing: a refusal leaves the transaction to be rolled back.

    Raises InsufficientCredits, RecipientNotFound, PayerNotFound, BalanceLimit, SelfTransfer,
    NotReversible, AlreadyReversed or LedgerFrozen.
    """
    house = house_id or (REVENUE_ID if kind in _REVENUE else ISSUANCE_ID)
    parameters = {
        "id": transfer_id,
        "kind": kind,
        "from_account_id": from_user_id or house,
        "to_account_id": to_user_id or house,
        "amount": amount,
        **asked(actor),
        "memo": memo,
        "created_at": clock.now(),
        "debit_id": ids.new(),
        "credit_id": ids.new(),
        "order_id": order_id,
        "reverses_id": reverses_id,
        "hold_id": None,
    }
    own = actor.user_id is not None and actor.user_id == from_user_id
    (row,) = execute(session, _POST, parameters, own=own)
    tell_later(session, transfer_id=transfer_id, kind=kind, amount=amount)
    return _transfer(row, from_user_id=from_user_id, to_user_id=to_user_id)


@tracing.step("transfer")
def post_batch(
    session: Session, *, from_user_id: UUID, sent: Sequence[Sent], actor: Actor
) -> list[Transfer]:
    """Post transfers of one sender in one round trip, all or none, in the order given.

    What one of them is refused for is told by its place: `details` map `transfers.2.to_user_id`.

    Raises InsufficientCredits (for all of them together), RecipientNotFound, BalanceLimit,
    SelfTransfer or LedgerFrozen.
    """
    parameters = {
        "ids": [each.transfer_id for each in sent],
        "from_account_id": from_user_id,
        "to_account_ids": [each.to_user_id for each in sent],
        "amounts": [each.amount for each in sent],
        "memos": [each.memo for each in sent],
        "debit_ids": [ids.new() for _ in sent],
        "credit_ids": [ids.new() for _ in sent],
        **asked(actor),
        "created_at": clock.now(),
    }
    rows = execute(session, _POST_BATCH, parameters, own=actor.user_id == from_user_id)
    for row in rows:
        tell_later(session, transfer_id=row.id, kind=row.kind, amount=row.amount)
    return [
        _transfer(row, from_user_id=from_user_id, to_user_id=each.to_user_id)
        for row, each in zip(rows, sent, strict=True)
    ]


def lock_account(session: Session, *, user_id: UUID) -> Locked:
    """Lock a user's account until the caller's transaction ends, and return what it holds.

    For whoever is about to change the user's status: a posting reads that under the same lock, so
    no credits come or go unseen meanwhile. Of the locks of a transaction it is the last but that of
    a posting from the same account.
    """
    row = session.execute(_LOCK, {"user_id": user_id}).one()
    return Locked(balance=row.balance, held=row.held)


def fold(session: Session, *, most: int) -> int:
    """Add up to `most` deltas to their house accounts' balances, and return how many there were.

    Raises LedgerFrozen.
    """
    ((folded,),) = execute(session, _FOLD, {"most": most})
    return int(folded)


def _transfer(row: Row[Any], *, from_user_id: UUID | None, to_user_id: UUID | None) -> Transfer:
    return Transfer(
        id=row.id,
        kind=row.kind,
        from_user_id=from_user_id,
        to_user_id=to_user_id,
        amount=row.amount,
        memo=row.memo,
        reverses_id=row.reverses_id,
        order_id=row.order_id,
        created_at=row.created_at,
    )
