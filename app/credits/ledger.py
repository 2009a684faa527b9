"""Moves credits: the only caller of the database functions that lock and change balances."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BigInteger, DateTime, Text, Uuid, bindparam, column, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.credits.errors import (
    BalanceLimit,
    InsufficientCredits,
    PayerNotFound,
    RecipientNotFound,
    SelfTransfer,
)
from app.credits.models import transfers
from app.credits.values import ISSUANCE_ID, REVENUE_ID, TransferKind
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.errors import AppError

# Parameters by position, as the function declares them.
_POSTED = func.post_transfer_v2(
    bindparam("id", type_=Uuid),
    bindparam("kind", type_=Text),
    bindparam("from_account_id", type_=Uuid),
    bindparam("to_account_id", type_=Uuid),
    bindparam("amount", type_=BigInteger),
    bindparam("actor_id", type_=Uuid),
    bindparam("actor_kind", type_=Text),
    bindparam("request_id", type_=Text),
    bindparam("memo", type_=Text),
    bindparam("created_at", type_=DateTime(timezone=True)),
    bindparam("debit_id", type_=Uuid),
    bindparam("credit_id", type_=Uuid),
).table_valued(*(column(stored.name, stored.type) for stored in transfers.c))
_POST = select(_POSTED)
_LOCKED = func.lock_account_v1(bindparam("user_id", type_=Uuid)).table_valued(
    column("balance", BigInteger), column("held", BigInteger)
)
_LOCK = select(_LOCKED)

# The function raises these; AC402 carries available and required as JSON in its DETAIL.
_REFUSALS: Mapping[str, type[AppError]] = {
    "AC402": InsufficientCredits,
    "AC404": RecipientNotFound,
    "AC409": BalanceLimit,
    "AC410": PayerNotFound,
    "AC422": SelfTransfer,
}


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
class Locked:
    """What a locked account holds, and how much of it is held back."""

    balance: int
    held: int


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
) -> Transfer:
    """Move credits in the caller's transaction, in one round trip.

    None is the house: revenue for a charge, else issuance. It is never locked; the users' accounts
    stay so until the transaction ends, and this belongs at its end. All or nothing: a refusal
    leaves the transaction, or the savepoint around it, to be rolled back.

    Raises InsufficientCredits, RecipientNotFound, PayerNotFound, BalanceLimit or SelfTransfer.
    """
    house = REVENUE_ID if kind == TransferKind.CHARGE else ISSUANCE_ID
    parameters = {
        "id": transfer_id,
        "kind": kind,
        "from_account_id": from_user_id or house,
        "to_account_id": to_user_id or house,
        "amount": amount,
        "actor_id": actor.user_id,
        "actor_kind": actor.kind,
        "request_id": actor.request_id,
        "memo": memo,
        "created_at": clock.now(),
        "debit_id": ids.new(),
        "credit_id": ids.new(),
    }
    try:
        row = session.execute(_POST, parameters).one()
    except DBAPIError as error:
        refusal = _refusal(error, own=actor.user_id == from_user_id)
        if refusal is None:
            raise
        raise refusal from error
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


def lock_account(session: Session, *, user_id: UUID) -> Locked:
    """Lock a user's account until the caller's transaction ends, and return what it holds.

    For whoever is about to change the user's status: a posting reads that under the same lock, so
    no credits come or go unseen meanwhile. Of the locks of a transaction it is the last but that of
    a posting from the same account.
    """
    row = session.execute(_LOCK, {"user_id": user_id}).one()
    return Locked(balance=row.balance, held=row.held)


def _refusal(error: DBAPIError, *, own: bool) -> AppError | None:
    """Return what the function refused, None for any other error.

    What an account holds is told to its owner only.
    """
    cause: Any = error.orig  # The driver's own exception, which has the SQLSTATE.
    refusal = _REFUSALS.get(getattr(cause, "pgcode", None) or "")
    if refusal is InsufficientCredits and own:
        return refusal(details=orjson.loads(cause.diag.message_detail))
    return refusal() if refusal else None
