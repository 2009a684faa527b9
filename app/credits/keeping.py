"""Use cases of keeping the books: check them, freeze them when they are wrong, fold the deltas."""

from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.credits import ledger, state
from app.credits.errors import AlreadyFrozen, LedgerFrozen, NotFrozen
from app.credits.state import LedgerState
from app.credits.verification import differences
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
# What is kept of differences, to know them again. Where there are more, all are news every time.
MOST_KNOWN: Final = 1_000
FOLDED_AT_ONCE: Final = 10_000
log = get_logger(__name__)


class BooksDiffer(Exception):
    """The books don't add up, in two snapshots: for the report of the error, nobody catches it."""


@dataclass(frozen=True, slots=True)
class _Found:
    """How many differences there are, the first of the new ones, and what lasts of all of them."""

    number: int
    news: str
    lasting: Set[str]


def fold_all() -> int:
    """Add all deltas to their house accounts' balances, a batch at a time; return how many.

    While the books are frozen nothing is touched: whoever looks for what went wrong finds it all.

    Raises Unavailable; what was folded until then is.
    """
    folded, batch = 0, FOLDED_AT_ONCE
    with suppress(LedgerFrozen):
        while batch == FOLDED_AT_ONCE:
            with transaction() as session:
                batch = ledger.fold(session, most=FOLDED_AT_ONCE)
            folded += batch
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
    """Verify the books, and return how many differences there are; freeze them if one is news.

    News has to be there in a second snapshot as well: what stops everybody's credits is looked at
    twice. What the check before has found is none: it froze the books, and if they are open, an
    operator has opened them knowing it. Books that are frozen already keep their reason.

    Raises Unavailable.
    """
    at, begun = clock.now(), monotonic()
    known = state.known()
    found = _look(known)
    if found.news:
        log.warning("ledger_differs", differences=found.number, first=found.news)
        found = _look(known)
    seconds = monotonic() - begun
    is_frozen = False
    with transaction() as session:
        if found.news:
            is_frozen = _freeze(
                session,
                actor=Actor(kind="system"),
                reason=found.news,
                details={"differences": found.number, "reason": found.news},
            )
        state.note_check(session, at=at, seconds=seconds, found=found.number, known=found.lasting)
    log.info("ledger_checked", differences=found.number, seconds=round(seconds, 3))
    if is_frozen:
        log.error("ledger_frozen", differences=found.number, first=found.news)
        sentry.capture(BooksDiffer(), request_id=None)
    return found.number


def freeze(*, actor: Actor, reason: str) -> None:
    """Let nothing change the books from now on; reading, and whatever moves no credits, goes on.

    Returns when what was under way is over as well.

    Raises AlreadyFrozen, or Unavailable: after more than 30 s, with the books frozen.
    """
    with transaction() as session:
        # Somebody's own words: with what is erased, and not in the event itself.
        if not _freeze(session, actor=actor, reason=reason, personal={"reason": reason}):
            raise AlreadyFrozen
    state.await_postings()


def unfreeze(*, actor: Actor) -> LedgerState:
    """Let the books be changed again, and return the state that was.

    What the last check has found is known from now on, and doesn't freeze them again.

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
            # What was known to be wrong, and to be lived with.
            details={"differences": before.differences} if before.differences else None,
        )
    return before


def _look(known: Set[str]) -> _Found:
    """Verify the books in a snapshot of its own, keeping only a few of the differences."""
    number, news, lasting = 0, list[str](), set[str]()
    for difference in differences():
        number += 1
        if difference.lasting not in known and len(news) < SENTENCES:
            news.append(difference.sentence)
        if len(lasting) <= MOST_KNOWN:
            lasting.add(difference.lasting)
    if len(lasting) > MOST_KNOWN:
        lasting.clear()
    return _Found(number, " ".join(news)[:MAX_REASON], lasting)


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
