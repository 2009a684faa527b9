"""Transactions, snapshots and reads share one pool, which survives whatever the server does."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.platform import db
from app.platform.errors import Conflict, Unavailable
from app.platform.settings import Settings
from tests.database import Databases, pool_on

TABLES = """
CREATE TABLE things (id bigint CONSTRAINT pk_things PRIMARY KEY, name text NOT NULL,
    CONSTRAINT ck_things_name CHECK (name <> 'bad'));
GRANT ALL ON things TO PUBLIC;
"""

Sql = Callable[..., list[Any]]


class Tables(DeclarativeBase):
    """Tables of this module only."""


class Thing(Tables):
    """A row that nothing else cares for."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class NameTaken(Conflict):
    """What a violated constraint means here."""


@pytest.fixture(scope="module")
def own(databases: Databases) -> Iterator[Settings]:
    """A database with the table above, whose pool has four places and little patience."""
    with databases.unmigrated(APP_DATABASE_ACQUIRE_TIMEOUT="0.2") as settings:
        with db.one_connection(settings, migration=True) as connection:
            connection.exec_driver_sql(TABLES)
        yield settings


@pytest.fixture(autouse=True)
def pool(own: Settings, request: pytest.FixtureRequest) -> Iterator[None]:
    """The pool is on that database while a test of this module runs."""
    before = request.getfixturevalue("settings") if db.pool_is_open() else None
    with pool_on(own, instead_of=before, size=4):
        yield


def names(condition: str = "true") -> list[str]:
    with db.reading() as connection:
        return list(connection.scalars(text(f"SELECT name FROM things WHERE {condition}")))


def add(identity: int, name: str = "x") -> None:
    with db.transaction() as session:
        session.add(Thing(id=identity, name=name))


def execute(*statements: str) -> None:
    """Execute statements in one transaction."""
    with db.transaction() as session:
        for statement in statements:
            session.execute(text(statement))


def terminate_all(own: Settings) -> None:
    """End every connection of the database, as a restart of the server does."""
    end = text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with db.one_connection(own) as connection:
        connection.execute(end)


def test_a_transaction_commits_on_leaving_and_its_objects_stay_readable() -> None:
    with db.transaction() as session:
        thing = Thing(id=1, name="kept")
        session.add(thing)
        session.flush()
        assert names("id = 1") == []
    assert thing.name == "kept"
    assert names("id = 1") == ["kept"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_transaction_rolls_back_on_any_exception(error: type[BaseException]) -> None:
    def change_and_fail() -> None:
        with db.transaction() as session:
            session.add(Thing(id=2, name="lost"))
            session.flush()
            raise error

    with pytest.raises(error):
        change_and_fail()
    assert names("id = 2") == []


def test_a_snapshot_sees_one_moment_and_cannot_write() -> None:
    with db.snapshot() as session:
        before = session.scalar(text("SELECT count(*) FROM things"))
        add(3)
        assert session.scalar(text("SELECT count(*) FROM things")) == before
        with pytest.raises(DBAPIError, match="read-only transaction"):
            session.execute(text("DELETE FROM things"))
    # The next transaction on the same connection may write again.
    add(4)


def test_a_read_takes_one_statement_and_a_transaction_three(own: Settings) -> None:
    # Any hidden SET or ROLLBACK would be a round trip for every request.
    with db.reading() as connection:
        assert connection.connection.dbapi_connection.autocommit
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    assert last_statement(own, pid) == "SELECT pg_backend_pid()"
    with db.transaction() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) == pid
    assert last_statement(own, pid) == "COMMIT"
    with db.transaction() as session:
        isolation = session.scalar(text("SHOW transaction_isolation"))
    assert (isolation, last_statement(own, pid)) == ("read committed", "COMMIT")
    with db.reading() as connection:
        connection.execute(text("SELECT 1"))
    assert last_statement(own, pid) == "SELECT 1"


def last_statement(own: Settings, pid: int) -> str:
    query = text("SELECT query FROM pg_stat_activity WHERE pid = :pid")
    with db.one_connection(own) as connection:
        return str(connection.scalar(query, {"pid": pid}))


def test_every_connection_has_its_time_limits() -> None:
    shown = {}
    with db.reading() as connection:
        for name in (
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "client_connection_check_interval",
            "TimeZone",
            "application_name",
        ):
            shown[name] = connection.scalar(text(f"SHOW {name}"))
    assert list(shown.values()) == ["3s", "10s", "15s", "5s", "UTC", "bursar"]


def test_options_in_the_url_are_kept_beside_ours(own: Settings) -> None:
    url = make_url(own.database_url).update_query_dict({"options": "-c work_mem=5MB"})
    given = replace(own, database_url=url.render_as_string(hide_password=False))
    with db.one_connection(given) as connection:
        assert connection.scalar(text("SHOW work_mem")) == "5MB"
        assert connection.scalar(text("SHOW lock_timeout")) == "3s"


def test_a_violated_constraint_means_what_the_call_site_says() -> None:
    add(5)
    with pytest.raises(NameTaken), db.constraint_errors({"pk_things": NameTaken}):
        add(5, "y")
    assert names("id = 5") == ["x"]


def test_other_errors_of_the_database_pass_unchanged() -> None:
    meanings = {"pk_things": NameTaken}
    with pytest.raises(IntegrityError), db.constraint_errors(meanings):
        add(6, "bad")
    with pytest.raises(ProgrammingError), db.constraint_errors(meanings):
        execute("SELECT * FROM nowhere")
    # A key that no index page can hold will never fit: repeating it would be in vain.
    with pytest.raises(DBAPIError, match="index row"):
        execute(
            "CREATE TEMP TABLE wide (x text PRIMARY KEY)",
            "INSERT INTO wide SELECT string_agg(md5(n::text), '') FROM generate_series(1, 999) n",
        )


def test_error_messages_do_not_show_parameters() -> None:
    # PostgreSQL itself quotes the line that it complains about, so this one stands apart.
    statement = text("INSERT INTO nowhere\nVALUES (:email)")
    with pytest.raises(DBAPIError) as caught, db.reading() as connection:
        connection.execute(statement, {"email": "a@example.org"})
    assert "a@example.org" not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "statement"),
    [("statement_timeout", "SELECT pg_sleep(3)"), ("lock_timeout", "LOCK things")],
)
def test_a_statement_that_takes_too_long_is_a_passing_fault(limit: str, statement: str) -> None:
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with db.transaction() as session:
            session.execute(text("LOCK things"))
            holding.set()
            done.wait(5)

    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(hold)
        assert holding.wait(5)
        with pytest.raises(Unavailable) as caught:
            execute(f"SET LOCAL {limit} = '50ms'", statement)
        done.set()
        held.result()
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert not db.is_retryable(caught.value)


def test_a_deadlock_is_unavailable_and_known_to_be_retryable() -> None:
    add(7)
    add(8)
    both = threading.Barrier(2)

    def update(first: int, second: int) -> BaseException | None:
        try:
            with db.transaction() as session:
                touch = text("UPDATE things SET name = 'z' WHERE id = :id")
                session.execute(touch, {"id": first})
                both.wait(5)
                session.execute(touch, {"id": second})
        except Unavailable as error:
            return error
        return None

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(update, (7, 8), (8, 7)))
    victims = [outcome for outcome in outcomes if outcome is not None]
    assert [db.is_retryable(victim) for victim in victims] == [True]
    assert not db.is_retryable(ValueError())


def test_a_serialization_failure_is_retryable() -> None:
    add(9)

    def overtaken() -> None:
        with db.transaction() as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            session.execute(text("SELECT 1"))
            execute("UPDATE things SET name = 'first' WHERE id = 9")
            session.execute(text("UPDATE things SET name = 'second' WHERE id = 9"))

    with pytest.raises(Unavailable) as caught:
        overtaken()
    assert db.is_retryable(caught.value)
    assert names("id = 9") == ["first"]


def test_when_all_connections_are_taken_the_wait_is_short() -> None:
    with ThreadPoolExecutor(4) as threads:
        started, done = threading.Barrier(5), threading.Event()

        def hold() -> None:
            with db.reading():
                started.wait(5)
                done.wait(5)

        held = [threads.submit(hold) for _ in range(4)]
        started.wait(5)
        begin = time.monotonic()
        with pytest.raises(Unavailable), db.reading():
            pass
        assert 0.15 < time.monotonic() - begin < 2
        done.set()
        for one in held:
            one.result()
    assert names("false") == []


def test_connections_that_the_server_closed_are_replaced_unnoticed(own: Settings) -> None:
    for attempt in range(3):
        hold_all = [db.reading() for _ in range(4)]
        pids = {held.__enter__().scalar(text("SELECT pg_backend_pid()")) for held in hold_all}
        for held in hold_all:
            held.__exit__(None, None, None)
        assert len(pids) == 4
        terminate_all(own)
        assert names("false") == []
        add(20 + attempt)
        with db.snapshot() as session:
            assert session.scalar(text("SELECT pg_backend_pid()")) not in pids


def test_a_connection_lost_at_work_is_unavailable_and_nothing_is_kept(own: Settings) -> None:
    def change() -> None:
        with db.transaction() as session:
            session.add(Thing(id=30, name="lost"))
            session.flush()
            terminate_all(own)

    def read() -> None:
        with db.reading() as connection:
            terminate_all(own)
            connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        change()
    with pytest.raises(Unavailable):
        read()
    assert names("id = 30") == []


def test_an_idle_transaction_that_the_server_ended_is_unavailable() -> None:
    def idle() -> None:
        with db.transaction() as session:
            session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
            time.sleep(0.3)
            session.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        idle()


def test_a_pool_opens_without_a_database_and_serves_once_it_is_there(databases: Databases) -> None:
    with databases.unmigrated() as there:
        url = make_url(there.database_url)
        absent = f"{url.database}_later"
        later = url.set(database=absent).render_as_string(hide_password=False)
        db.close_pool(1)
        db.open_pool(replace(there, database_url=later), size=2)
        with pytest.raises(Unavailable), db.reading():
            pass
        databases.execute("CREATE DATABASE {} TEMPLATE {}", absent, str(url.database))
        with db.reading() as connection:
            assert connection.scalar(text("SELECT current_database()")) == absent


def test_a_process_has_one_pool_and_needs_it_open(own: Settings) -> None:
    assert db.pool_is_open()
    with pytest.raises(RuntimeError, match="open already"):
        db.open_pool(own)
    db.close_pool(1)
    assert not db.pool_is_open()
    with pytest.raises(RuntimeError, match="isn't open"), db.reading():
        pass
    db.close_pool(1)


def test_the_least_connections_are_open_from_the_start(own: Settings) -> None:
    db.close_pool(1)
    db.open_pool(replace(own, database_min_connections=3), size=4)
    count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    with db.one_connection(own) as connection:
        assert connection.scalar(count) == 4


def test_closing_waits_for_those_at_work_and_no_longer_than_it_may() -> None:
    started = threading.Event()

    def work(seconds: float) -> float:
        with db.transaction() as session:
            started.set()
            session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
        return time.monotonic()

    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work, 0.3)
        assert started.wait(5)
        db.close_pool(5)
        assert working.result() <= time.monotonic()


def test_closing_does_not_wait_for_ever() -> None:
    with db.reading():
        begin = time.monotonic()
        db.close_pool(0.1)
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("limit", "workers", "size"),
    [(100, 2, 20), (40, 4, 7), (20, 8, 2), (12, 1, 2), (None, 9, 10), (10_000, 1, 20)],
)
def test_a_workers_share_of_the_servers_connections(
    own: Settings, limit: int | None, workers: int, size: int
) -> None:
    assert db.pool_size(replace(own, server_workers=workers), limit) == size


def test_the_servers_limit_is_known_when_it_answers(own: Settings) -> None:
    limit = db.server_limit(own)
    with db.one_connection(own) as connection:
        assert connection.scalar(text("SHOW max_connections")) == str(limit)
    nowhere = replace(own, database_url="postgresql+psycopg2://x@127.0.0.1:1/x")
    assert db.server_limit(nowhere) is None
