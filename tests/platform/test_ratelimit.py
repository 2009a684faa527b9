"""Counting: exact, whoever counts at once, and going on while the shared store is away."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from threading import Barrier, Event
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row
from structlog.testing import capture_logs

from app.platform import clock, counters, origin, ratelimit
from app.platform.counters import Count, Memory, Postgres, Store, StoreAway
from app.platform.errors import Conflict, NotFound, TooManyRequests
from app.platform.ratelimit import Limit, Taken
from app.platform.settings import Settings
from tests.database import pool_on
from tests.limiting import SwitchOn, later, switching
from tests.scraped import samples

Sql = Callable[..., list[Row[Any]]]
HOUR = Limit(name="test", amount=7, seconds=3600)
RENEWED = Limit(name="renewed", amount=3, seconds=900, renews=True)
ROUNDS = 5
AWAY = "postgresql+psycopg2://x:y@127.0.0.1:1/none"


@pytest.fixture
def switch_on(settings: Settings, pool: None) -> Iterator[SwitchOn]:
    with switching(settings) as switch_on:
        yield switch_on


@pytest.fixture(params=[Postgres, Memory])
def store(request: pytest.FixtureRequest, pool: None) -> Store:
    made: Store = request.param()
    return made


def take(store: Store, key: bytes, limit: Limit = HOUR, amount: int = 1) -> bool:
    return store.take(
        key, amount=amount, limit=limit.amount, seconds=limit.seconds, renews=limit.renews
    ).granted


def test_of_many_at_once_no_more_get_something_than_there_is(store: Store) -> None:
    """Seen failing with two statements in PostgreSQL, one that looks and then one that counts."""
    for _ in range(ROUNDS):
        key, start = os.urandom(32), Barrier(16)

        def one(_: int, key: bytes = key, start: Barrier = start) -> list[bool]:
            start.wait()
            return [take(store, key) for _ in range(4)]

        with ThreadPoolExecutor(16) as threads:
            granted = [each for many in threads.map(one, range(16)) for each in many]
        assert sum(granted) == HOUR.amount


def test_what_is_refused_counts_nothing(store: Store) -> None:
    key = os.urandom(32)
    assert take(store, key, amount=5)
    assert not take(store, key, amount=3)
    assert take(store, key, amount=2)
    assert not take(store, key)


def test_what_is_given_back_can_be_taken_again_and_never_more(store: Store) -> None:
    key = os.urandom(32)
    store.give_back(key, amount=1)
    assert [take(store, key) for _ in range(8)] == [True] * 7 + [False]
    store.give_back(key, amount=2)
    assert [take(store, key) for _ in range(3)] == [True, True, False]
    store.give_back(key, amount=100)
    assert [take(store, key) for _ in range(8)] == [True] * 7 + [False]


def test_the_time_begins_with_what_is_taken_first(store: Store) -> None:
    key = os.urandom(32)
    with later(0):
        assert take(store, key, amount=6)
    with later(3500):
        assert take(store, key)
        refused = store.take(key, amount=1, limit=7, seconds=3600, renews=False)
        assert (refused.granted, round(refused.left)) == (False, 100)
    with later(3601):
        assert [take(store, key) for _ in range(8)] == [True] * 7 + [False]


def test_in_a_limit_that_renews_no_interval_has_more(store: Store) -> None:
    key = os.urandom(32)
    granted: list[int] = []
    for second in range(0, 8000, 50):
        with later(second):
            if take(store, key, RENEWED):
                granted.append(second)
    # The first three, and three more whenever nobody got anything for as long.
    assert granted[:6] == [0, 50, 100, 1000, 1050, 1100]
    for begin in range(0, 8000, 10):
        assert sum(begin <= second < begin + RENEWED.seconds for second in granted) <= 3


def test_rows_whose_time_is_over_go_by_themselves(
    pool: None, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "SWEEP_MOST", 50)
    store, old, lasting = Postgres(), [os.urandom(32) for _ in range(60)], os.urandom(32)
    for key in old:
        take(store, key)
    many = sql("SELECT count(*) FROM rate_limits WHERE key = ANY(:keys)", keys=old)
    assert many[0][0] == 60
    with later(3601):
        for _ in range(counters.SWEEP_EVERY * 2):
            take(store, lasting, Limit(name="", amount=1000, seconds=60))
    assert sql("SELECT count(*) FROM rate_limits WHERE key = ANY(:keys)", keys=old)[0][0] == 0
    assert sql("SELECT used FROM rate_limits WHERE key = :key", key=lasting)[0][0] == 128


def test_a_worker_remembers_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "MOST_REMEMBERED", 3)
    store, keys = Memory(), [os.urandom(32) for _ in range(5)]
    for key in keys:
        take(store, key)
    assert list(store._used) == keys[2:]


def test_a_network_is_an_ipv4_address_or_a_64_of_ipv6() -> None:
    assert origin.network("203.0.113.9") == "203.0.113.9"
    assert origin.network("::ffff:203.0.113.9") == "203.0.113.9"
    assert origin.network("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert origin.network("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert origin.network("2001:db8:1:3::1") != origin.network("2001:db8:1:2::1")
    assert origin.network("fe80::1%eth0") == "fe80::/64"
    assert origin.network("somewhere") == "somewhere"
    assert origin.network(None) is None


def test_a_refusal_says_how_much_and_when(switch_on: SwitchOn) -> None:
    switch_on()
    with later(0):
        for _ in range(3):
            ratelimit.take(RENEWED, "somebody")
        with pytest.raises(TooManyRequests) as refusal:
            ratelimit.take(RENEWED, "somebody")
        ratelimit.take(RENEWED, "somebody else")
        ratelimit.take(replace(RENEWED, name="other"), "somebody")
    assert refusal.value.headers == {
        "Retry-After": "900",
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "900",
    }


def test_taking_of_several_takes_of_all_or_none(switch_on: SwitchOn) -> None:
    switch_on()
    single = Limit(name="single", amount=1, seconds=60)
    ratelimit.take(single, "b")
    for _ in range(10):
        with pytest.raises(TooManyRequests):
            ratelimit.take_all([(HOUR, ("a",)), (single, ("b",))])
    assert len(ratelimit.take_all([(HOUR, ("a",))] * 7)) == 7


@pytest.mark.parametrize(
    ("outcome", "left"),
    [(None, 7), (NotFound, 7), (Conflict, 6), (RuntimeError, 6), (KeyboardInterrupt, 6)],
)
def test_what_is_counted_is_given_back_unless_it_is_kept_or_broke_off(
    switch_on: SwitchOn, outcome: type[BaseException] | None, left: int
) -> None:
    switch_on()
    wanted = [(HOUR, ("a",)), (replace(HOUR, name="other"), ("b",))]
    with (
        pytest.raises(outcome) if outcome else nullcontext(),
        ratelimit.counted(wanted, kept=(Conflict,)),
    ):
        if outcome is not None:
            raise outcome
    for limit, subject in wanted:
        assert len(ratelimit.take_all([(limit, subject)] * left)) == left
        with pytest.raises(TooManyRequests):
            ratelimit.take(limit, *subject)


def test_nothing_is_given_back_into_another_time(switch_on: SwitchOn) -> None:
    switch_on()
    taken = ratelimit.take_all([(HOUR, ("a",))])
    with later(3601):
        for _ in range(7):
            ratelimit.take(HOUR, "a")
        ratelimit.give_back(taken)
        with pytest.raises(TooManyRequests):
            ratelimit.take(HOUR, "a")


def test_no_subject_stands_in_the_table(settings: Settings, pool: None, sql: Sql) -> None:
    """Nor a hash of it that anybody can compute: under another key it is another one."""
    subject = ("203.0.113.77", "ada@example.com")

    def stored() -> set[bytes]:
        return {bytes(row.key) for row in sql("SELECT key FROM rate_limits")}

    before = stored()
    for _ in range(2):
        with switching(settings) as switch_on:
            switch_on()
            ratelimit.take(HOUR, *subject)
    new = stored() - before
    assert [len(key) for key in new] == [32, 32]
    assert sha256("\0".join((HOUR.name, *subject)).encode()).digest() not in stored()


def test_while_limits_are_off_nothing_is_counted(settings: Settings, sql: Sql) -> None:
    ratelimit.configure(settings, key=b"")
    before = sql("SELECT count(*), sum(used) FROM rate_limits")
    assert ratelimit.take_all([(Limit(name="none", amount=1, seconds=60), ("a",))] * 5) == []
    ratelimit.take_of_address("203.0.113.1")
    ratelimit.spend_of_user(uuid4())
    ratelimit.give_back([])
    assert sql("SELECT count(*), sum(used) FROM rate_limits") == before


def test_while_the_store_is_away_a_worker_counts_by_itself(
    switch_on: SwitchOn, settings: Settings
) -> None:
    """One warning for an outage, nobody waits but once in five seconds, and no error."""

    def faults() -> float:
        return samples()["rate_limit_storage_faults_total"]

    before, limiter = faults(), switch_on()
    ratelimit.take(HOUR, "a")
    with capture_logs() as lines:
        with later(0), pool_on(replace(settings, database_url=AWAY), instead_of=settings):
            taken = ratelimit.take_all([(HOUR, ("a",))] * 7)
            assert {one.store for one in taken} == {limiter._own}
            with pytest.raises(TooManyRequests):
                ratelimit.take(HOUR, "a")
            ratelimit.give_back(taken[:1])
            ratelimit.take(HOUR, "a")
            assert faults() == before + 1
            with later(5.1):
                ratelimit.give_back(taken[:1])
                ratelimit.take(HOUR, "a")
            assert faults() == before + 2
        with later(9):
            ratelimit.take(HOUR, "b")
            assert limiter._away
        with later(11):
            (back,) = ratelimit.take_all([(HOUR, ("a",))])
            assert (limiter._away, back.store) == (False, limiter._shared)
    assert [(line["event"], line["log_level"], line.get("fault")) for line in lines] == [
        ("rate_limit_storage_away", "warning", "OperationalError"),
        ("rate_limit_storage_back", "info", None),
    ]


def test_while_one_request_asks_whether_the_store_is_back_the_others_do_not_wait(
    switch_on: SwitchOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = Event(), Event()

    def fail(*_args: Any, **_options: Any) -> Count:
        raise StoreAway

    def hang(*_args: Any, **_options: Any) -> Count:
        asked.set()
        answer.wait(10)
        raise StoreAway

    switch_on()
    monkeypatch.setattr(Postgres, "take", fail)
    ratelimit.take(HOUR, "a")
    monkeypatch.setattr(Postgres, "take", hang)
    with later(5.1), ThreadPoolExecutor(1) as thread:
        first = thread.submit(ratelimit.take, HOUR, "a")
        assert asked.wait(10)
        for _ in range(3):
            ratelimit.take(HOUR, "a")
        assert not first.done()
        answer.set()
        first.result()


def test_what_cannot_be_given_back_because_the_store_is_away_stays_taken(
    switch_on: SwitchOn, settings: Settings
) -> None:
    limiter = switch_on()
    taken = ratelimit.take_all([(HOUR, ("a",))])
    with pool_on(replace(settings, database_url=AWAY), instead_of=settings):
        ratelimit.give_back(taken)
    assert limiter._away


def test_a_redis_that_is_not_there_is_a_store_that_is_away(switch_on: SwitchOn) -> None:
    limiter = switch_on(rate_limit_storage_url="valkey://:hush@127.0.0.1:1/0")
    with capture_logs() as lines:
        taken = ratelimit.take_all([(HOUR, ("a",))] * 7)
        with pytest.raises(TooManyRequests):
            ratelimit.take(HOUR, "a")
        assert {one.store for one in taken} == {limiter._own}
        with later(5.1):
            ratelimit.take(HOUR, "b")
            ratelimit.give_back([Taken(limiter._shared, os.urandom(32), clock.time() + 60)])
    assert [(line["event"], line["fault"]) for line in lines] == [
        ("rate_limit_storage_away", "ConnectionError")
    ]


def test_what_a_worker_knows_of_users_is_bounded(
    switch_on: SwitchOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit, "MOST_REMEMBERED", 3)
    limiter, users = switch_on(), [uuid4() for _ in range(5)]
    for user in users:
        ratelimit.spend_of_user(user)
    assert [named[1] for named in limiter._shares] == users[2:]
