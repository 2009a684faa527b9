"""Watches what the service asks of its database."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

# The number of a transaction belongs to one database, so other tests' waiters don't count.
WAITERS = text(
    "SELECT count(*) FROM pg_locks"
    " WHERE NOT granted AND transactionid = CAST(CAST(pg_current_xact_id() AS text) AS xid)"
)
WAITING = text(
    "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE NOT granted AND datname = current_database()"
)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that are sent, without their values."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@contextmanager
def transaction_of_another(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction, which is committed at the end."""
    with (
        engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
        connection.begin(),
    ):
        yield connection


def wait_until_somebody_waits_for(connection: Connection) -> None:
    """Return once another transaction waits for this connection's."""
    end = time.monotonic() + 5
    while not connection.scalar(WAITERS):
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.01)


def wait_until_waiting(connection: Connection, number: int) -> None:
    """Return once this many transactions of the test's database wait for a lock."""
    end = time.monotonic() + 5
    while connection.scalar(WAITING) < number:
        assert time.monotonic() < end, "nobody waits"
        time.sleep(0.01)
