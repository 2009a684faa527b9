"""Sets credits aside, and takes or frees them later: the only caller of the functions of holds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, Text, Uuid
from sqlalchemy.orm import Session

from app.credits.functions import ASKED, TIME, asked, call, execute
from app.credits.models import holds
from app.credits.tallies import tell_later
from app.credits.values import HoldStatus, TransferKind
from app.platform import clock, ids
from app.platform.actor import Actor

_PLACE = call(
    "place_hold_v1",
    {
        "id": Uuid(), "account_id": Uuid(), "amount": BigInteger(), "placed_by": Uuid(),
        "memo": Text(), "expires_at": TIME, "created_at": TIME,
    },
    list(holds.c),
)  # fmt: skip
_CAPTURE = call(
    "capture_hold_v1",
    {
        "id": Uuid(), "amount": BigInteger(), "transfer_id": Uuid(), **ASKED, "now": TIME,
        "debit_id": Uuid(), "credit_id": Uuid(),
    },
    list(holds.c),
)  # fmt: skip
_RELEASE = call("release_hold_v1", {"id": Uuid(), "status": Text(), "now": TIME}, list(holds.c))
_LOCK_OPEN = call("lock_open_holds_v1", {"account_id": Uuid()}, [holds.c.id])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Credits of a user that are set aside, as it is answered."""

    id: UUID
    user_id: UUID
    amount: int
    captured: int
    status: str
    expires_at: datetime
    memo: str | None
    created_at: datetime


def place(
    session: Session,
    *,
    hold_id: UUID,
    user_id: UUID,
    amount: int,
    actor: Actor,
    memo: str | None,
    expires_at: datetime,
) -> Hold:
    """Set credits of a user aside, in the caller's transaction, which has to end soon after.

    Raises InsufficientCredits, PayerNotFound or LedgerFrozen.
    """
    parameters = {
        "id": hold_id,
        "account_id": user_id,
        "amount": amount,
        "placed_by": actor.user_id,
        "memo": memo,
        "expires_at": expires_at,
        "created_at": clock.now(),
    }
    (row,) = execute(session, _PLACE, parameters, own=actor.user_id == user_id)
    return _hold(row)


def capture(
    session: Session, *, hold_id: UUID, amount: int | None, transfer_id: UUID, actor: Actor
) -> Hold:
    """Move a hold's credits (None: all) to revenue as a charge, and free the rest.

    Raises HoldEnded, Invalid (the hold holds less), PayerNotFound or LedgerFrozen.
    """
    parameters = {
        "id": hold_id,
        "amount": amount,
        "transfer_id": transfer_id,
        **asked(actor),
        "now": clock.now(),
        "debit_id": ids.new(),
        "credit_id": ids.new(),
    }
    (row,) = execute(session, _CAPTURE, parameters)
    kind = TransferKind.CHARGE
    tell_later(session, transfer_id=transfer_id, kind=kind, amount=row.captured)
    return _hold(row)


def release(session: Session, *, hold_id: UUID, status: HoldStatus = HoldStatus.RELEASED) -> Hold:
    """Free what a hold sets aside; `expired` is for holds past their time, and only for those.

    Raises HoldEnded or LedgerFrozen.
    """
    parameters = {"id": hold_id, "status": status, "now": clock.now()}
    (row,) = execute(session, _RELEASE, parameters)
    return _hold(row)


def lock_open(session: Session, *, user_id: UUID) -> list[UUID]:
    """Lock all that is set aside of a user until the caller's transaction ends; return the ids.

    For whoever ends several of them: a hold is locked before its account, everywhere, and the first
    that is ended locks the account.
    """
    return [row.id for row in session.execute(_LOCK_OPEN, {"account_id": user_id})]


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        id=row.id,
        user_id=row.account_id,
        amount=row.amount,
        captured=row.captured,
        status=row.status,
        expires_at=row.expires_at,
        memo=row.memo,
        created_at=row.created_at,
    )
