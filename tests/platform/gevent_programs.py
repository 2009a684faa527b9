"""What a gevent worker does, as functions for a process of their own, which gevent has patched.

Started by `test_psycopg2_gevent.py`: the patch counts for a whole process, and comes first in it.
"""

import gc
import itertools
import random
import time
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import psycopg2
import pytest
from gevent import GreenletExit
from gevent.event import Event
from gevent.server import StreamServer
from sqlalchemy import text

from app.platform import db, psycopg2_gevent
from app.platform.errors import Unavailable
from app.platform.settings import Settings, load_settings
from tests.platform.things import terminate_all

SLEEP = text("SELECT pg_sleep(:seconds)")


def start(*, size: int) -> Settings:
    """Do what a worker does after the fork."""
    settings = load_settings()
    psycopg2_gevent.install()
    db.open_pool(settings, size=size)
    return settings


def read(statement: str) -> Any:
    with db.reading() as connection:
        return connection.scalar(text(statement))


def wait_until_running(settings: Settings, part: str) -> None:
    """Wait until the server is at work on a statement that contains `part`."""
    running = text(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND strpos(query, :part) > 0 AND pid <> pg_backend_pid()"
    )
    with db.one_connection(settings) as connection:
        while not connection.scalar(running, {"part": part}):
            gevent.sleep(0.02)


def assert_pool_is_whole(size: int) -> None:
    """Check that every place is free, and that each asker gets the answer to its own question."""
    everyone_has_one, taken = Event(), []

    def ask(number: int) -> int:
        with db.reading() as connection:
            taken.append(number)
            if len(taken) == size:
                everyone_has_one.set()
            assert everyone_has_one.wait(5), "a place is missing"
            return int(connection.scalar(text("SELECT :n * 2"), {"n": number}) or 0)

    asked = [gevent.spawn(ask, number) for number in range(size)]
    gevent.joinall(asked, raise_error=True)
    assert [one.value for one in asked] == [number * 2 for number in range(size)]


def twenty_sleeping_queries_run_side_by_side() -> None:
    start(size=20)

    def sleep() -> None:
        with db.reading() as connection:
            connection.execute(SLEEP, {"seconds": 0.3})

    begin = time.monotonic()
    gevent.joinall([gevent.spawn(sleep) for _ in range(20)], raise_error=True)
    assert time.monotonic() - begin < 3, "one after the other would take six seconds"
    assert_pool_is_whole(20)


def a_server_that_never_answers_is_given_up() -> None:
    # Taking the connection and saying nothing is the worst a server can do: no error ever comes.
    with StreamServer(("127.0.0.1", 0), lambda *_: gevent.sleep(60)) as silent:
        silent.start()
        begin = time.monotonic()
        dsn = f"postgresql://x:y@127.0.0.1:{silent.server_port}/x?connect_timeout=1&gssencmode=disable"
        psycopg2_gevent.install()
        ticks = gevent.spawn(tick)
        with pytest.raises(psycopg2.OperationalError, match="did not answer in time"):
            psycopg2.connect(dsn, connection_factory=psycopg2_gevent.Connection)
        assert 0.9 < time.monotonic() - begin < 4
        ticks.kill()
        assert len(TICKS) > 20, "others could not run meanwhile"


TICKS: list[float] = []


def tick() -> None:
    while True:
        TICKS.append(time.monotonic())
        gevent.sleep(0.01)


def a_statement_that_never_ends_is_cut_once_for_all_its_wakes() -> None:
    psycopg2_gevent.STATEMENT_SECONDS = 0.5
    start(size=2)

    def endless() -> None:
        # Its notices wake the waiting side every tenth of a second, and must not prolong the wait.
        with db.reading() as connection:
            connection.execute(
                text(
                    "DO $$ BEGIN FOR n IN 1..80 LOOP RAISE NOTICE 'awake';"
                    " PERFORM pg_sleep(0.1); END LOOP; END $$"
                )
            )

    begin = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        endless()
    assert "did not answer in time" in str(caught.value.__cause__)
    assert 0.4 < time.monotonic() - begin < 3
    assert_pool_is_whole(2)


def connections_that_the_server_closed_are_replaced() -> None:
    settings = start(size=5)
    assert_pool_is_whole(5)
    for pause in (0.0, 0.3):
        terminate_all(settings)
        gevent.sleep(pause)
        assert_pool_is_whole(5)


def a_killed_greenlet_leaves_the_pool_usable() -> None:
    settings = start(size=2)
    numbers = itertools.count()

    def change() -> None:
        with db.transaction() as session:
            session.execute(text("INSERT INTO things VALUES (:id)"), {"id": 100 + next(numbers)})
            session.execute(SLEEP, {"seconds": 30})

    def look() -> None:
        with db.reading() as connection:
            connection.execute(SLEEP, {"seconds": 30})

    def look_at_a_moment() -> None:
        with db.snapshot() as session:
            session.execute(SLEEP, {"seconds": 30})

    for work in (change, look, look_at_a_moment):
        for how in (GreenletExit, gevent.Timeout(1), ValueError("from outside")):
            victims = [gevent.spawn(swallow, work) for _ in range(2)]
            wait_until_running(settings, "pg_sleep")
            for victim in victims:
                victim.kill(how, block=True, timeout=5)
            assert_pool_is_whole(2)
    assert read("SELECT count(*) FROM things WHERE id >= 100") == 0


def swallow(work: Callable[[], None]) -> None:
    """Run `work` to whatever end, without a traceback on standard error."""
    try:
        work()
    except BaseException as error:
        if not isinstance(error, GreenletExit | gevent.Timeout | Unavailable):
            raise


def a_greenlet_killed_in_its_commit_leaves_the_pool_usable() -> None:
    settings = start(size=2)

    def change() -> None:
        # The table's deferred trigger sleeps during COMMIT.
        with db.transaction() as session:
            session.execute(text("INSERT INTO slow_to_commit VALUES (1)"))

    victim = gevent.spawn(swallow, change)
    wait_until_running(settings, "COMMIT")
    victim.kill(block=True, timeout=5)
    assert_pool_is_whole(2)


def a_greenlet_killed_while_it_waits_for_its_turn_takes_no_place_with_it() -> None:
    start(size=1)
    held, done = Event(), Event()

    def hold() -> None:
        with db.reading():
            held.set()
            done.wait()

    holder = gevent.spawn(hold)
    held.wait()
    waiting = [gevent.spawn(read, "SELECT 1") for _ in range(3)]
    gevent.sleep(0.05)
    waiting[0].kill(block=True)
    done.set()
    # This one has just been given the place, and has not run since.
    holder.join()
    waiting[1].kill(block=True)
    gevent.joinall([waiting[2]], timeout=5, raise_error=True)
    assert waiting[2].value == 1
    assert_pool_is_whole(1)


def answers_never_reach_the_wrong_greenlet() -> None:
    start(size=4)
    wrong: list[tuple[int, int]] = []
    answered = []

    def ask(number: int) -> None:
        with db.reading() as connection:
            query = text("SELECT :n FROM pg_sleep(:seconds)")
            seconds = random.random() / 50
            answer = connection.scalar(query, {"n": number, "seconds": seconds})
        answered.append(number)
        if answer != number:
            wrong.append((number, int(answer or 0)))

    asking = [gevent.spawn(swallow, lambda n=n: ask(n)) for n in range(300)]
    while not all(one.dead for one in asking):
        random.choice(asking).kill(block=False)
        gevent.sleep(0.01)
    assert wrong == []
    assert len(answered) > 50
    assert_pool_is_whole(4)


def waiting_for_a_siblings_row_lock_does_not_stop_the_worker() -> None:
    settings = start(size=2)
    locked, order = Event(), []

    def first() -> None:
        with db.transaction() as session:
            session.execute(text("SELECT FROM things WHERE id = 1 FOR UPDATE"))
            locked.set()
            wait_until_running(settings, "UPDATE things")
            order.append("first")

    def second() -> None:
        locked.wait()
        with db.transaction() as session:
            session.execute(text("UPDATE things SET id = id WHERE id = 1"))
            order.append("second")

    gevent.joinall([gevent.spawn(first), gevent.spawn(second)], timeout=10, raise_error=True)
    assert order == ["first", "second"]


def a_pool_is_not_opened_without_the_wait_callback() -> None:
    with pytest.raises(RuntimeError, match="install the wait callback"):
        db.open_pool(load_settings())
    psycopg2_gevent.install()
    psycopg2_gevent.install()
    assert psycopg2_gevent.is_installed()


def a_watcher_ends_with_its_connection() -> None:
    settings = start(size=1)
    dsn = settings.database_url.replace("+psycopg2", "")

    def connect() -> psycopg2_gevent.Connection:
        made = psycopg2.connect(dsn, connection_factory=psycopg2_gevent.Connection)
        made.cursor().execute("SELECT 1")
        assert made.watcher is not None
        return made

    # Closed as it should be.
    closed = connect()
    closed.close()
    assert closed.watcher is None
    # Ended by the server: the watcher stops, or the event loop would spin on it.
    ended = connect()
    with db.one_connection(settings) as connection:
        end = text("SELECT pg_terminate_backend(:pid, 5000)")
        connection.execute(end, {"pid": ended.info.backend_pid})
    gevent.sleep(0.05)
    assert (ended.hung_up, ended.watcher) == (True, None)
    assert ended.is_stale()
    # Cut in the middle of a statement: psycopg2 has closed the descriptor by itself.
    cut = connect()
    cut.limit = 0.2
    with pytest.raises(psycopg2.OperationalError, match="did not answer in time"):
        cut.cursor().execute("SELECT pg_sleep(30)")
    assert (bool(cut.closed), cut.watcher) == (True, None)
    # Lost without being closed.
    lost = connect()
    watcher, reference = lost.watcher, weakref.ref(lost)
    del lost
    # The event loop's last call is still on its stack, and holds the connection until it is back.
    gevent.sleep(0)
    gc.collect()
    assert reference() is None
    assert not watcher.active
