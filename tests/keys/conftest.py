"""What the tests of signing keys begin with: a database without a key, and a clock that moves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
import time_machine
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.pool import NullPool

from app.keys import rotation
from app.keys.rotation import SigningKeyRow
from app.platform.db import reading
from app.platform.settings import Settings
from tests.database import Databases
from tests.server.serving import wait_until

At = Callable[..., datetime]
Stored = Callable[[], list[SigningKeyRow]]
START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def fresh(empty_database: Settings, app: object) -> Settings:
    """The settings of a database without a key, which the pool is on."""
    return empty_database


@pytest.fixture
def at() -> Iterator[At]:
    """A function that sets the clock: so long after the start of 2030."""
    with ExitStack() as moved:

        def move(**after: float) -> datetime:
            moved.close()
            moment = START + timedelta(**after)
            moved.enter_context(time_machine.travel(moment, tick=False))
            return moment

        move()
        yield move


@pytest.fixture
def stored() -> Stored:
    """A function that reads all keys, the oldest first."""

    def read() -> list[SigningKeyRow]:
        with reading() as connection:
            return list(rotation.read(connection))

    return read


@pytest.fixture
def cut(databases: Databases, fresh: Settings) -> Callable[[], None]:
    """A function that waits until a statement on that database waits for a lock, and ends it."""

    def waiting() -> bool:
        with closing(psycopg2.connect(databases.superuser_url)) as superuser:
            superuser.autocommit = True
            with superuser.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = %s AND wait_event_type = 'Lock'",
                    (make_url(fresh.database_url).database,),
                )
                return cursor.fetchone() is not None

    return lambda: wait_until(waiting)


@pytest.fixture
def owner(fresh: Settings) -> Engine:
    """Connections of the tables' owner, outside of the pool."""
    return create_engine(fresh.database_migration_url, poolclass=NullPool)


@pytest.fixture
def looks() -> Iterator[list[str]]:
    """The statements that read the set of signing keys."""
    found: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "FROM signing_keys" in statement:
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)
