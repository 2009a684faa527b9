"""Tells of each transfer, once it is committed: in the metrics, and by a line in the log."""

from functools import cache, partial
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy.orm import Session

from app.platform import metrics
from app.platform.db import after_commit
from app.platform.logging import get_logger

log = get_logger(__name__)


def tell_later(session: Session, *, transfer_id: UUID, kind: str, amount: int) -> None:
    """Tell of a transfer when the caller's transaction is committed, and never when it isn't."""
    after_commit(session, partial(_tell, transfer_id, kind, amount))


@cache
def _of(kind: str) -> tuple[Counter, Counter]:
    # Looking one up by its label costs more than counting.
    transfers = metrics.counter("transfers_total", "Transfers of credits.", "kind")
    moved = metrics.counter("credits_moved_total", "Credits that transfers moved.", "kind")
    return transfers.labels(kind), moved.labels(kind)


def _tell(transfer_id: UUID, kind: str, amount: int) -> None:
    transfers, moved = _of(kind)
    transfers.inc()
    moved.inc(amount)
    # Who sent how much to whom stands in the books, for those who may read them.
    log.info("transfer", transfer_id=str(transfer_id), kind=kind)
