"""Calls the ledger's functions in the database, and names what they refuse."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Column, DateTime, Row, Select, Text, Uuid, bindparam, column, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from app.credits.errors import (
    AlreadyReversed,
    BalanceLimit,
    HoldEnded,
    InsufficientCredits,
    LedgerFrozen,
    NotReversible,
    PayerNotFound,
    RecipientNotFound,
    SelfTransfer,
)
from app.platform.actor import Actor
from app.platform.errors import AppError, Invalid

TIME: Final = DateTime(timezone=True)
# Who asked for it, as each movement of credits keeps it.
ASKED: Mapping[str, TypeEngine[Any]] = {
    "actor_id": Uuid(), "actor_kind": Text(), "request_id": Text(),
}  # fmt: skip

# The functions raise these; AC402 carries available and required as JSON in its DETAIL.
_REFUSALS: Mapping[str, type[AppError]] = {
    "AC402": InsufficientCredits,
    "AC404": RecipientNotFound,
    "AC409": BalanceLimit,
    "AC410": PayerNotFound,
    "AC422": SelfTransfer,
    "AC423": NotReversible,
    "AC424": AlreadyReversed,
    "AC425": HoldEnded,
    "AC503": LedgerFrozen,
}
_HOLDS_LESS = "AC426"


def call(
    name: str, parameters: Mapping[str, TypeEngine[Any]], shape: Sequence[Column[Any]]
) -> Select[Any]:
    """Return the call of a function whose rows have these columns; parameters by position."""
    values = [bindparam(name, type_=kind) for name, kind in parameters.items()]
    rows = getattr(func, name)(*values).table_valued(*(column(c.name, c.type) for c in shape))
    return select(rows)


def asked(actor: Actor) -> dict[str, Any]:
    """Return the parameters that ASKED declares."""
    return {
        "actor_id": actor.user_id,
        "actor_kind": actor.kind,
        "request_id": actor.request_id,
    }


def execute(
    session: Session, statement: Select[Any], parameters: Mapping[str, Any], *, own: bool = False
) -> Sequence[Row[Any]]:
    """Call a function and return its rows; `own` is whether the credits to take are the actor's.

    Raises what the function refuses: one of `errors.py`, or Invalid.
    """
    try:
        return session.execute(statement, parameters).all()
    except DBAPIError as error:
        refusal = _refusal(error, own=own)
        if refusal is None:
            raise
        raise refusal from error


def _refusal(error: DBAPIError, *, own: bool) -> AppError | None:
    """Return what a function refused, None for any other error.

    What an account holds is told to its owner only.
    """
    cause: Any = error.orig  # The driver's own exception, which has the SQLSTATE.
    state = getattr(cause, "pgcode", None) or ""
    if state == _HOLDS_LESS:
        return Invalid(details={"amount": ["Is more than the hold holds."]})
    refusal = _REFUSALS.get(state)
    if refusal is None:
        return None
    detail = cause.diag.message_detail
    if refusal is InsufficientCredits:
        return refusal(details=orjson.loads(detail)) if own else refusal()
    if detail is not None:
        return refusal(details={f"transfers.{detail}.to_user_id": [refusal.message]})
    return refusal()
