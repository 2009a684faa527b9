"""What a gevent worker does, as functions for a process of their own, which gevent has patched.

Started by `test_psycopg2_gevent.py`: the patch counts for a whole process, and comes first in it.
"""

import gc
import time
import weakref

import gevent
import psycopg2
import pytest
from gevent.event import Event
from gevent.server import StreamServer
from sqlalchemy import text

from app.platform import db, psycopg2_gevent
from app.platform.errors import Unavailable
from app.platform.settings import load_settings
from tests.platform.gevent_worker import SLEEP, assert_pool_is_whole, start, wait_until_running
from tests.platform.things import terminate_all


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
