"""Moves credits: the only caller of the database function that changes balances."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import BigInteger, DateTime, Text, Uuid, bindparam, column, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.credits.errors import BalanceLimit, InsufficientCredits, RecipientNotFound, SelfTransfer
from app.credits.models import transfers
from app.credits.values import ISSUANCE_ID, TransferKind
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.errors import AppError

# Parameters by position, as the function declares them.
_POSTED = func.post_transfer_v1(
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

# The function raises these; AC402 carries available and required as JSON in its DETAIL.
_REFUSALS: Mapping[str, type[AppError]] = {
    "AC402": InsufficientCredits,
    "AC404": RecipientNotFound,
    "AC409": BalanceLimit,
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


def post(
    session: Session,
    *,
    transfer_id: UUID,
    kind: TransferKind,
    from_user_id: UUID | None,
    to_user_id: UUID,
    amount: int,
    actor: Actor,
    memo: str | None,
) -> Transfer:
    """Move credits in the caller's transaction, in one round trip; None sends from issuance.

    Keeps the accounts locked until the transaction ends, so it belongs at its end. All or nothing:
    a refusal leaves the transaction, or the savepoint around it, to be rolled back.

    Raises InsufficientCredits, RecipientNotFound, BalanceLimit or SelfTransfer.
    """
    parameters = {
        "id": transfer_id,
        "kind": kind,
        "from_account_id": from_user_id or ISSUANCE_ID,
        "to_account_id": to_user_id,
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


def _refusal(error: DBAPIError, *, own: bool) -> AppError | None:
    """Return what the function refused, None for any other error.

    What an account holds is told to its owner only.
    """
    cause: Any = error.orig  # The driver's own exception, which has the SQLSTATE.
    refusal = _REFUSALS.get(getattr(cause, "pgcode", None) or "")
    if refusal is InsufficientCredits and own:
        return refusal(details=orjson.loads(cause.diag.message_detail))
    return refusal() if refusal else None
