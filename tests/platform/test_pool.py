"""One pool serves a process, and survives whatever the server does to its connections."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import event, make_url, text

from app.platform import db
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from tests.database import Databases
from tests.platform.things import Thing, add, names, terminate_all

pytestmark = pytest.mark.usefixtures("own_pool")


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


def test_a_server_that_ends_new_connections_at_once_is_unavailable(own: Settings) -> None:
    """Found by chaos: it read as a mistake of ours, and was answered by a 500."""
    with db.reading() as connection:
        engine = connection.engine

    def hang_up(*_: object) -> None:
        terminate_all(own)

    terminate_all(own)
    event.listen(engine, "connect", hang_up)
    try:
        with pytest.raises(Unavailable):
            names("false")
        with pytest.raises(Unavailable):
            db.first_row("SELECT 1 AS one", {})
        with pytest.raises(Unavailable):
            add(40)
    finally:
        event.remove(engine, "connect", hang_up)
    assert names("id = 40") == []


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
