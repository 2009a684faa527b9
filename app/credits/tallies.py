"""Tells of each transfer, once it is committed: in the metrics, and by a line in the log."""

from functools import partial
from uuid import UUID

from sqlalchemy.orm import Session

from app.credits.values import TransferKind
from app.platform import metrics
from app.platform.db import after_commit
from app.platform.logging import get_logger

log = get_logger(__name__)
_transfers = metrics.counter("transfers_total", "Transfers of credits.", kind=TransferKind)
_moved = metrics.counter("credits_moved_total", "Credits that transfers moved.", kind=TransferKind)


def tell_later(session: Session, *, transfer_id: UUID, kind: str, amount: int) -> None:
    """Tell of a transfer when the caller's transaction is committed, and never when it isn't."""
    after_commit(session, partial(_tell, transfer_id, kind, amount))


def _tell(transfer_id: UUID, kind: str, amount: int) -> None:
    _transfers.of(kind).inc()
    _moved.of(kind).inc(amount)
    # Who sent how much to whom stands in the books, for those who may read them.
    log.info("transfer", transfer_id=str(transfer_id), kind=kind)
