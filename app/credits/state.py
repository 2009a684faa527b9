"""Whether the books may be changed, and what their last check found: one row, read and set here.

Everything that changes the books looks at it in the database: see `refuse_frozen_v1`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ARRAY, BigInteger, Double, Text, bindparam, func, select, text
from sqlalchemy.orm import Session

from app.credits.functions import TIME
from app.credits.models import ledger_state
from app.platform.db import reading, transaction
from app.platform.gauges import Gauge

_STATE = select(
    ledger_state.c.frozen_at,
    ledger_state.c.frozen_reason,
    ledger_state.c.checked_at,
    ledger_state.c.check_seconds,
    ledger_state.c.differences,
    func.cardinality(ledger_state.c.known_differences).label("known"),
)
_SET_FROZEN = select(
    func.set_ledger_frozen_v1(bindparam("at", type_=TIME), bindparam("reason", type_=Text()))
)
_NOTE_CHECK = select(
    func.note_ledger_check_v2(
        bindparam("at", type_=TIME),
        bindparam("seconds", type_=Double()),
        bindparam("found", type_=BigInteger()),
        bindparam("known", type_=ARRAY(Text)),
    )
)
_KNOWN = select(ledger_state.c.known_differences)
_AWAIT = select(func.await_postings_v1())
# Longer than whatever changes the books may take: an idle transaction is ended before that.
_PATIENCE: Final = ("SET LOCAL statement_timeout = '30s'", "SET LOCAL lock_timeout = '30s'")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """Since when and why the books are frozen, None when they aren't; and their last check.

    `checked_at` is when it began; None, with the two after it, before the first. `known` is how
    many differences the next check knows again; several sentences may be about the same one.
    """

    frozen_at: datetime | None
    frozen_reason: str | None
    checked_at: datetime | None
    check_seconds: float | None
    differences: int | None
    known: int = 0


def read() -> LedgerState:
    """Return the state of this moment.

    Raises Unavailable.
    """
    with reading() as connection:
        return LedgerState(**connection.execute(_STATE).mappings().one())


def freeze(session: Session, *, at: datetime, reason: str) -> bool:
    """Let nothing change the books once the caller's transaction is committed.

    Returns False when they are frozen already; then the first reason stays.
    """
    return bool(session.execute(_SET_FROZEN, {"at": at, "reason": reason}).scalar_one())


def unfreeze(session: Session) -> bool:
    """Let the books be changed again; returns False when they weren't frozen."""
    return bool(session.execute(_SET_FROZEN, {"at": None, "reason": None}).scalar_one())


def await_postings() -> None:
    """Return when whatever was changing the books is over; after a freeze, nothing comes any more.

    Raises Unavailable when that takes more than 30 s, which nothing is allowed to.
    """
    with transaction() as session:
        for limit in _PATIENCE:
            session.execute(text(limit))
        session.execute(_AWAIT)


def known() -> frozenset[str]:
    """Return what lasts of the differences that the last check has found.

    Raises Unavailable.
    """
    with reading() as connection:
        return frozenset(connection.execute(_KNOWN).scalar_one())


def note_check(
    session: Session, *, at: datetime, seconds: float, found: int, known: Collection[str]
) -> None:
    """Keep when a check began, how long it took, and how many differences it found.

    `known` is what lasts of them, so that they are no news to the next check; 1,000 at most.
    """
    parameters = {"at": at, "seconds": seconds, "found": found, "known": sorted(known)}
    session.execute(_NOTE_CHECK, parameters)


def gauges() -> Sequence[Gauge]:
    """Return the state as numbers for the metrics; those of a check only after the first one.

    Raises Unavailable.
    """
    now = read()
    shown = [
        Gauge(
            "ledger_frozen",
            "1 while nothing may change the books, else 0.",
            0 if now.frozen_at is None else 1,
        )
    ]
    if now.checked_at is not None:
        shown += [
            Gauge("ledger_differences", "What the last check found wrong.", now.differences or 0),
            Gauge(
                "ledger_checked_timestamp_seconds",
                "When the last check of the books began.",
                now.checked_at.timestamp(),
            ),
            Gauge(
                "ledger_check_duration_seconds",
                "How long the last check of the books took.",
                now.check_seconds or 0,
            ),
        ]
    return shown
