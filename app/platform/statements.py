"""Runs every statement, and names in the log those that took long.

A line names what a statement does and its text, in which `%(name)s` stands for each value: values
are personal, and never stand in it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from psycopg2.extensions import cursor
from psycopg2.extras import NamedTupleCursor

from app.platform.logging import get_logger
from app.platform.settings import Settings

# Enough to find it in the code; the longest of ours are some thousands.
TEXT_LENGTH = 500
# What begins a statement, and what it is about: the first table or function of its own.
_VERB = re.compile(r"\s*([a-z]+)", re.IGNORECASE)
_SUBJECT = re.compile(
    r"\b(?:FROM|INTO|UPDATE|TABLE)\s+(?:ONLY\s+)?([a-z_][a-z0-9_.]*)", re.IGNORECASE
)
_CALLED = re.compile(r"\bSELECT\s+([a-z_][a-z0-9_.]*)\s*\(", re.IGNORECASE)

# With the cursor, or for a COMMIT the connection.
Run = Callable[[Any, Callable[..., None], Any, Any], None]
log = get_logger(__name__)
_slow_seconds = 0.5
_run: Run | None = None


def watch(settings: Settings) -> None:
    """Take over from which time on a statement is slow."""
    global _slow_seconds
    _slow_seconds = settings.log_slow_query_ms / 1000


def run_by(run: Run | None) -> None:
    """Let `run(cursor, execute, statement, values)` call `execute(statement, values)` from now on.

    None calls it directly.
    """
    global _run
    _run = run


def name_of(statement: object) -> str:
    """Return what a statement does to what, such as `UPDATE orders`."""
    text = _read(statement)
    verb = _VERB.match(text)
    subject = _SUBJECT.search(text) or _CALLED.search(text)
    return " ".join([verb[1].upper() if verb else "SQL", *([subject[1]] if subject else [])])


def text_of(statement: object) -> str:
    """Return a statement's text on one line, cut when it is long."""
    return " ".join(_read(statement).split())[:TEXT_LENGTH]


def run_commit(own: Any, end: Callable[[], None]) -> None:
    """End a transaction by `end`, like a statement: it waits for the disk, and maybe a replica."""
    _timed(own, lambda *_: end(), "COMMIT", None)


class Cursor(cursor):
    """What statements are run with on our connections."""

    def execute(self, query: Any, values: Sequence[Any] | Mapping[str, Any] | None = None) -> None:
        """Run a statement.

        Raises psycopg2.Error.
        """
        _timed(self, super().execute, query, values)

    def executemany(self, query: Any, values: Any) -> None:
        """Run a statement for each set of values.

        Raises psycopg2.Error.
        """
        _timed(self, super().executemany, query, values)


class NamedCursor(Cursor, NamedTupleCursor):
    """A cursor whose rows are named tuples."""


def _timed(own: Any, execute: Callable[..., None], statement: Any, values: Any) -> None:
    begun = monotonic()
    try:
        run = _run
        if run is None:
            execute(statement, values)
        else:
            run(own, execute, statement, values)
    finally:
        seconds = monotonic() - begun
        if seconds >= _slow_seconds:
            log.warning(
                "slow_query",
                query=name_of(statement),
                text=text_of(statement),
                duration_ms=round(seconds * 1000, 1),
            )


def _read(statement: object) -> str:
    return statement.decode(errors="replace") if isinstance(statement, bytes) else str(statement)
