"""Counts what is taken of limits, in PostgreSQL or in this process; redis_counters.py has Redis.

All stores keep one promise: `take` compares and counts in one step, so that of many at once no more
get something than the limit has. What is refused counts nothing.
"""

import itertools
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import psycopg2
from sqlalchemy import CheckConstraint, Column, DateTime, Index, Integer, LargeBinary, Table

from app.platform import clock
from app.platform.db import Base, first_row
from app.platform.errors import Unavailable

# The reasons for each column stand in the migration.
rate_limits = Table(
    "rate_limits",
    Base.metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("used", Integer, nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("octet_length(key) = 32", name="key"),
    CheckConstraint("used >= 0", name="used"),
    Index("ix_rate_limits_ends_at", "ends_at"),
    prefixes=["UNLOGGED"],
    postgresql_with={"fillfactor": 50},
)

# After so many takes up to so many rows go whose time is over: always more than have come.
SWEEP_EVERY = 64
SWEEP_MOST = 500
# Some megabytes of a worker, while the shared store is away.
MOST_REMEMBERED = 20_000

# A row whose time is over begins anew. No row comes back when the limit is used up.
_TAKE = """
INSERT INTO rate_limits AS r (key, used, ends_at)
VALUES (%(key)s, %(amount)s, %(now)s + %(seconds)s * interval '1 second')
ON CONFLICT (key) DO UPDATE SET
    used = CASE WHEN r.ends_at <= %(now)s THEN 0 ELSE r.used END + %(amount)s,
    ends_at = CASE
        WHEN r.ends_at <= %(now)s OR %(renews)s THEN EXCLUDED.ends_at ELSE r.ends_at
    END
WHERE r.ends_at <= %(now)s OR r.used + %(amount)s <= %(limit)s
RETURNING ends_at
"""
# For those who are refused. In one statement with the other it would cost everybody half as much
# again (300 instead of 200 µs).
_UNTIL = "SELECT ends_at FROM rate_limits WHERE key = %(key)s"
_GIVE_BACK = """
UPDATE rate_limits SET used = greatest(used - %(amount)s, 0) WHERE key = %(key)s RETURNING used
"""
# Those that somebody is just renewing are passed over.
_SWEEP = """
WITH gone AS (
    DELETE FROM rate_limits WHERE key IN (
        SELECT key FROM rate_limits WHERE ends_at <= %(now)s
        ORDER BY ends_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ) RETURNING 1
) SELECT count(*) FROM gone
"""


class StoreAway(Exception):
    """The store can't be asked just now; whatever the reason, somebody else has to count."""


@dataclass(frozen=True, slots=True)
class Count:
    """Whether something was taken, and how many seconds the limit's time lasts from now on."""

    granted: bool
    left: float


class Store(Protocol):
    """Where counts are kept. Both methods raise StoreAway."""

    def take(self, key: bytes, *, amount: int, limit: int, seconds: int, renews: bool) -> Count:
        """Take an amount if the limit has so much left."""

    def give_back(self, key: bytes, *, amount: int) -> None:
        """Undo a take; a count never falls below zero."""


class Postgres:
    """Counts in the database, by all workers together; one statement for what is granted."""

    def __init__(self) -> None:
        """Count the takes of this process, to sweep from time to time."""
        self._takes = itertools.count(1)

    def take(self, key: bytes, *, amount: int, limit: int, seconds: int, renews: bool) -> Count:
        """Take an amount if the limit has so much left.

        Raises StoreAway.
        """
        now = clock.now()
        row = _row(_TAKE, now, key=key, amount=amount, limit=limit, seconds=seconds, renews=renews)
        if next(self._takes) % SWEEP_EVERY == 0:
            _row(_SWEEP, now, most=SWEEP_MOST)
        granted = row is not None
        if row is None:
            row = _row(_UNTIL, now, key=key)
        # None again: somebody has swept it since.
        return Count(granted, 0 if row is None else (row.ends_at - now).total_seconds())

    def give_back(self, key: bytes, *, amount: int) -> None:
        """Undo a take.

        Raises StoreAway.
        """
        _row(_GIVE_BACK, clock.now(), key=key, amount=amount)


def _row(statement: str, now: datetime, **parameters: Any) -> Any:
    try:
        return first_row(statement, parameters | {"now": now})
    # The second: the table isn't there yet, or the server is read-only.
    except (Unavailable, psycopg2.Error) as fault:
        raise StoreAway from fault


@dataclass(slots=True)
class _Used:
    amount: int
    ends_at: float


class Memory:
    """Counts in this process alone, while the shared store is away. Bounded: the oldest go."""

    def __init__(self) -> None:
        """Start with nothing taken."""
        self._used: dict[bytes, _Used] = {}
        self._one_at_a_time = threading.Lock()

    def take(self, key: bytes, *, amount: int, limit: int, seconds: int, renews: bool) -> Count:
        """Take an amount if the limit has so much left."""
        now = clock.time()
        with self._one_at_a_time:
            used = self._used.get(key)
            if used is None or used.ends_at <= now:
                # To the end of the dict, which keeps the order of insertion.
                self._used.pop(key, None)
                while len(self._used) >= MOST_REMEMBERED:
                    del self._used[next(iter(self._used))]
                self._used[key] = used = _Used(0, now + seconds)
            elif used.amount + amount > limit:
                return Count(False, used.ends_at - now)
            used.amount += amount
            if renews:
                used.ends_at = now + seconds
            return Count(True, used.ends_at - now)

    def give_back(self, key: bytes, *, amount: int) -> None:
        """Undo a take."""
        with self._one_at_a_time:
            used = self._used.get(key)
            if used is not None:
                used.amount = max(used.amount - amount, 0)
