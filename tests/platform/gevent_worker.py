"""What the programs of a gevent worker share: its start, and questions about its pool."""

from collections.abc import Callable
from typing import Any

import gevent
from gevent import GreenletExit
from gevent.event import Event
from sqlalchemy import text

from app.platform import db, psycopg2_gevent
from app.platform.errors import Unavailable
from app.platform.settings import Settings, load_settings

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


def swallow(work: Callable[[], None]) -> None:
    """Run `work` to whatever end, without a traceback on standard error."""
    try:
        work()
    except BaseException as error:
        if not isinstance(error, GreenletExit | gevent.Timeout | Unavailable):
            raise
