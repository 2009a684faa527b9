"""Use cases of keeping the books: check them, freeze them when they are wrong, fold the deltas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from time import monotonic
from typing import Any, Final

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.credits import ledger, state
from app.credits.errors import AlreadyFrozen, NotFrozen
from app.credits.state import LedgerState
from app.credits.verification import verify
from app.platform import clock, sentry
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.logging import get_logger

# A check begins so long after the last one began, or so many times as long as that one took, if
# that is more. So a tenth of the time is spent on them at most, however large the books are.
CHECKED_EVERY: Final = timedelta(minutes=10)
SHARE_OF_TIME: Final = 10
# What a reason says of the differences: enough to begin with; `flask credits verify` has them all.
SENTENCES: Final = 3
MAX_REASON: Final = 500
FOLDED_AT_ONCE: Final = 10_000
log = get_logger(__name__)


class BooksDiffer(Exception):
    """The books don't add up, in two snapshots: for the report of the error, nobody catches it."""


@dataclass(frozen=True, slots=True)
class _Found:
    """How many differences there are, and the first of them."""

    number: int
    first: str


def fold_all() -> int:
    """Add all deltas to their house accounts' balances, a batch at a time; return how many.

    While the books are frozen nothing is touched: whoever looks for what went wrong finds it all.

    Raises Unavailable; what was folded until then is.
    """
    folded = 0
    if state.read().frozen_at is not None:
        return folded
    while True:
        with transaction() as session:
            batch = ledger.fold(session, most=FOLDED_AT_ONCE)
        folded += batch
        if batch < FOLDED_AT_ONCE:
            return folded


def is_due(now: datetime, last: LedgerState) -> bool:
    """Tell whether it is time for the next check of the books."""
    if last.checked_at is None:
        return True
    took = timedelta(seconds=last.check_seconds or 0)
    return now >= last.checked_at + max(CHECKED_EVERY, SHARE_OF_TIME * took)


class Checking:
    """The checks of one process: not more often than they may, also when they fail."""

    def __init__(self) -> None:
        """Start without a check."""
        self._rests_until = 0.0

    def check_if_due(self) -> bool:
        """Check the books if it is time to, and return whether that was so.

        Raises Unavailable.
        """
        begun = monotonic()
        if begun < self._rests_until or not is_due(clock.now(), state.read()):
            return False
        try:
            check()
        finally:
            # One that fails notes nothing: without this, it would begin anew every minute.
            self._rests_until = begun + SHARE_OF_TIME * (monotonic() - begun)
        return True


def check() -> int:
    """Verify the books, and return how many differences there are; freeze them if there are any.

    They have to be there in a second snapshot as well: what stops everybody's credits is looked at
    twice. Books that are frozen already stay so with their reason.

    Raises Unavailable.
    """
    at, begun = clock.now(), monotonic()
    found = _look()
    if found.number:
        log.warning("ledger_differs", differences=found.number, first=found.first)
        found = _look()
    seconds = monotonic() - begun
    is_news = False
    with transaction() as session:
        if found.number:
            is_news = _freeze(
                session,
                actor=Actor(kind="system"),
                reason=found.first,
                details={"differences": found.number, "reason": found.first},
            )
        state.note_check(session, at=at, seconds=seconds, found=found.number)
    log.info("ledger_checked", differences=found.number, seconds=round(seconds, 3))
    if is_news:
        log.error("ledger_frozen", differences=found.number, first=found.first)
        sentry.capture(BooksDiffer(), request_id=None)
    return found.number


def freeze(*, actor: Actor, reason: str) -> None:
    """Let nothing change the books from now on; reading, and whatever moves no credits, goes on.

    Raises AlreadyFrozen or Unavailable.
    """
    with transaction() as session:
        # Somebody's own words: with what is erased, and not in the event itself.
        if not _freeze(session, actor=actor, reason=reason, personal={"reason": reason}):
            raise AlreadyFrozen


def unfreeze(*, actor: Actor) -> LedgerState:
    """Let the books be changed again, and return the state that was.

    Raises NotFrozen or Unavailable.
    """
    before = state.read()
    with transaction() as session:
        if not state.unfreeze(session):
            raise NotFrozen
        audit.record(
            session,
            Action.LEDGER_UNFROZEN,
            actor=actor,
            subject_type="ledger",
            subject_id=None,
        )
    return before


def _look() -> _Found:
    """Verify the books in a snapshot of its own, keeping only the first few sentences."""
    differences = verify()
    first = list(islice(differences, SENTENCES))
    number = len(first) + sum(1 for _ in differences)
    return _Found(number, " ".join(first)[:MAX_REASON])


def _freeze(
    session: Session,
    *,
    actor: Actor,
    reason: str,
    details: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
) -> bool:
    if not state.freeze(session, at=clock.now(), reason=reason):
        return False
    audit.record(
        session,
        Action.LEDGER_FROZEN,
        actor=actor,
        subject_type="ledger",
        subject_id=None,
        details=details,
        personal=personal,
    )
    return True
