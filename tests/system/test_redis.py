"""Limits counted in a real Redis by two servers: exact, and nothing breaks while it is away."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest
from redis import Redis
from sqlalchemy import text

from app import create_app
from app.platform import db
from app.platform.counters import StoreAway
from app.platform.redis_counters import RedisCounters
from app.platform.settings import Settings
from tests import people
from tests.database import variables
from tests.people import PASSWORD, TestUser
from tests.server.serving import Server, serving, wait_until
from tests.server.visiting import Visitor, visitor_of_each_worker
from tests.system.redis_server import RedisServer

LOGIN = "/api/v1/auth/login"
ME = "/api/v1/users/me"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.end()


@pytest.fixture
def user(empty_database: Settings) -> TestUser:
    return people.make_user(create_app(empty_database))


@dataclass
class Both:
    """Two servers with two workers each, and a visitor of each worker."""

    servers: list[Server]
    visitors: list[Visitor]

    def lines(self, event: str) -> list[object]:
        """Return what both have logged of an event."""
        return [line for server in self.servers for line in server.lines(event)]


@pytest.fixture
def both(
    empty_database: Settings, user: TestUser, redis: RedisServer, tmp_path: Path
) -> Iterator[Both]:
    more = {
        "APP_SERVER_WORKERS": "2",
        "APP_DATABASE_MAX_CONNECTIONS": "5",
        "APP_RATE_LIMIT_ENABLED": "true",
        "APP_RATE_LIMIT_STORAGE_URL": redis.url,
        "APP_RATE_LIMIT_USER_PER_MINUTE": "40",
        "APP_AUTH_ISSUER": empty_database.auth_issuer,
    }
    with ExitStack() as running:
        servers = [
            running.enter_context(serving(tmp_path, app=None, **variables(empty_database) | more))
            for _ in range(2)
        ]
        visitors = [
            visitor
            for server in servers
            for visitor in running.enter_context(visitor_of_each_worker(server, workers=2))
        ]
        yield Both(servers, visitors)


def guess(visitor: Visitor, email: str, password: str = "wrong") -> int:
    return visitor.post(LOGIN, {"email": email, "password": password}).status


def nobody() -> str:
    return f"{uuid4().hex}@example.com"


def test_the_counters_keep_what_every_store_promises(redis: RedisServer) -> None:
    """Exact for many at once, given back never below zero, renewed or not, gone when over."""
    valkey = RedisCounters(redis.url.replace("redis://", "valkey://"))
    for store in (RedisCounters(redis.url), RedisCounters(redis.socket_url), valkey):
        key, start = os.urandom(32), Barrier(8)

        def one(
            _: int, store: RedisCounters = store, key: bytes = key, start: Barrier = start
        ) -> int:
            start.wait()
            takes = (store.take(key, amount=1, limit=7, seconds=60, renews=False) for _ in range(8))
            return sum(take.granted for take in takes)

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(one, range(8))) == 7
        store.give_back(key, amount=2)
        again = [store.take(key, amount=1, limit=7, seconds=60, renews=False) for _ in range(3)]
        assert [take.granted for take in again] == [True, True, False]
        assert 55 < again[-1].left <= 60
        store.give_back(key, amount=100)
        assert store.take(key, amount=7, limit=7, seconds=60, renews=False).granted
        assert not store.take(key, amount=1, limit=7, seconds=60, renews=False).granted

    store = RedisCounters(redis.url)
    for renews, left in ((False, 1), (True, 2)):
        key = os.urandom(32)
        store.take(key, amount=1, limit=9, seconds=2, renews=renews)
        time.sleep(1)
        took = store.take(key, amount=1, limit=9, seconds=2, renews=renews)
        assert left - 0.5 < took.left <= left
    time.sleep(2.1)
    with Redis.from_url(redis.url) as client:
        assert client.exists(b"bursar:limit:" + key.hex().encode()) == 0
        assert all(client.ttl(name) > 0 for name in client.keys("bursar:limit:*"))


def test_a_wrong_password_of_redis_is_a_store_that_is_away(redis: RedisServer) -> None:
    store = RedisCounters(redis.url.replace(redis.password, "x"))
    with pytest.raises(StoreAway):
        store.take(bytes(32), amount=1, limit=1, seconds=1, renews=False)


def test_four_workers_of_two_servers_count_together(
    empty_database: Settings, both: Both, user: TestUser
) -> None:
    emails = [user.email, nobody()]
    for email in emails:
        statuses = [guess(visitor, email) for visitor in both.visitors * 4]
        assert (statuses.count(401), statuses.count(429)) == (5, 11)
    asked = [
        visitor.get(ME, token=user.token).status for _ in range(25) for visitor in both.visitors
    ]
    assert asked.count(200) == 40
    assert set(asked) == {200, 429}
    with db.one_connection(empty_database) as connection:
        assert connection.execute(text("SELECT count(*) FROM rate_limits")).scalar_one() == 0


def test_while_redis_is_away_each_worker_counts_by_itself(
    both: Both, user: TestUser, redis: RedisServer
) -> None:
    email = nobody()
    assert [guess(visitor, email) for visitor in both.visitors] == [401] * 4
    redis.end()
    # By the both of address and identity: five for each of four workers.
    statuses = [guess(visitor, email) for visitor in both.visitors for _ in range(7)]
    assert (statuses.count(401), statuses.count(429)) == (20, 8)
    assert guess(both.visitors[0], user.email, PASSWORD) == 200
    assert len(both.lines("rate_limit_storage_away")) == 4
    assert not both.lines("unexpected_error")
    redis.start()
    wait_until(lambda: guess(both.visitors[0], user.email, PASSWORD) and back(both, 1))
    assert [guess(both.visitors[0], email) for _ in range(6)] == [401] * 5 + [429]
    for server in both.servers:
        assert redis.password not in server.text()
    numbers = both.visitors[0].get("/metrics").body.decode()
    assert "rate_limit_storage_faults_total" in numbers


def back(both: Both, many: int) -> bool:
    return len(both.lines("rate_limit_storage_back")) >= many


def test_a_redis_that_hangs_holds_nobody_up_for_long(
    both: Both, user: TestUser, redis: RedisServer
) -> None:
    visitor = both.visitors[0]
    assert guess(visitor, user.email, PASSWORD) == 200
    redis.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert guess(visitor, user.email, PASSWORD) == 200
        assert 0.4 < time.monotonic() - began < 2
        began = time.monotonic()
        for _ in range(5):
            assert guess(visitor, user.email, PASSWORD) == 200
        assert time.monotonic() - began < 1
    finally:
        redis.process.send_signal(signal.SIGCONT)
    assert not both.lines("unexpected_error")
