"""A keyed operation happens exactly once, whatever its repeats and twins do."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import time_machine
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.platform import clock, idempotency, ids
from app.platform.db import Base, transaction
from app.platform.errors import (
    AppError,
    Conflict,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    Invalid,
    NotFound,
    PaymentRequired,
    Unavailable,
)
from app.platform.idempotency import LIFETIME, Answer, once
from tests.platform.counting import Counter, keyed

pytestmark = pytest.mark.usefixtures("app")


def test_a_repeat_gets_the_first_answer_byte_for_byte() -> None:
    """Status, body, Location and ETag come back, and the work isn't done again."""
    counter = Counter()
    first = counter.run(keyed())
    second = counter.run(keyed())
    assert (first.status, first.body, first.replayed) == (201, b"1", False)
    assert (second.status, second.body, second.location, second.etag) == (201, b"1", "/x", '"1"')
    assert second.replayed
    assert counter.runs == 1


def test_without_a_key_every_request_counts() -> None:
    """Nothing is stored, so that nothing can be repeated."""
    counter = Counter()
    assert [counter.run(keyed(None)).body for _ in range(2)] == [b"1", b"2"]


def test_another_request_with_the_same_key_is_refused() -> None:
    """What is asked tells them apart."""
    counter = Counter()
    counter.run(keyed())
    with pytest.raises(IdempotencyKeyReused):
        counter.run(keyed(content=b"something else"))
    assert counter.runs == 1


def test_keys_belong_to_their_user() -> None:
    """Two users may choose the same key."""
    assert [Counter().run(keyed()).replayed for _ in range(2)] == [False, False]


def test_after_thirty_days_a_key_counts_as_new() -> None:
    """The old row is replaced, and the new answer is the one that is repeated."""
    counter = Counter()
    counter.run(keyed())
    with time_machine.travel(clock.now() + LIFETIME - timedelta(minutes=1)):
        assert counter.run(keyed()).body == b"1"
    with time_machine.travel(clock.now() + LIFETIME + timedelta(minutes=1)):
        assert counter.run(keyed(content=b"something else")).body == b"2"
        assert counter.run(keyed(content=b"something else")).replayed


@pytest.mark.parametrize("refusal", [PaymentRequired, NotFound, Conflict])
def test_final_refusals_are_stored_and_their_work_undone(
    refusal: type[AppError], sql: Callable[..., Any]
) -> None:
    """402, 404 and 409 are answers; what the work had written before is gone."""
    counter = Counter()
    other = ids.new()

    def refused(session: Session) -> int:
        counter.work(session)
        session.execute(
            Base.metadata.tables["idempotency_keys"].insert(),
            {
                "user_id": other,
                "key": "mine",
                "fingerprint": b"f" * 32,
                "status": 200,
                "content_type": "",
                "body": b"",
                "created_at": clock.now(),
            },
        )
        raise refusal

    first = counter.run(keyed(), refused)
    second = counter.run(keyed(), refused)
    assert (first.status, first.body) == (refusal.status, refusal.code.encode())
    assert (second.status, second.body, second.replayed) == (first.status, first.body, True)
    assert counter.runs == 1
    assert not sql("SELECT 1 FROM idempotency_keys WHERE user_id = :id", id=other)


@pytest.mark.parametrize("refusal", [Invalid, Unavailable, ZeroDivisionError])
def test_other_failures_leave_the_key_free(refusal: type[Exception]) -> None:
    """The same request may be tried again with the same key."""
    counter = Counter()

    def failing(session: Session) -> int:
        raise refusal

    with pytest.raises(refusal):
        counter.run(keyed(), failing)
    assert counter.run(keyed()).body == b"1"


def test_a_twin_of_a_running_request_is_refused_at_once() -> None:
    """It doesn't wait on a connection; after the first has ended, it gets the first answer."""
    counter = Counter()
    inside, go_on = threading.Event(), threading.Event()

    def slow(session: Session) -> int:
        inside.set()
        assert go_on.wait(10)
        return counter.work(session)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(counter.run, keyed(), slow)
        assert inside.wait(10)
        with pytest.raises(IdempotencyInProgress):
            counter.run(keyed())
        go_on.set()
        assert first.result(10).body == b"1"
    assert counter.run(keyed()).replayed


def test_a_twin_that_succeeds_before_a_refusal_is_stored_has_the_first_answer() -> None:
    """The refused work is rolled back before its answer is stored; meanwhile a top-up helped."""
    counter = Counter()

    def twin(error: AppError) -> Answer:
        assert counter.run(keyed()).body == b"1"
        return Answer(status=error.status, body=b"refused")

    def refused(session: Session) -> int:
        raise PaymentRequired

    answer = counter.run(replace(keyed(), refuse=twin), refused)
    assert (answer.status, answer.body, answer.replayed) == (201, b"1", True)
    assert counter.run(keyed()).body == b"1"


def test_thirty_two_twins_do_the_work_once() -> None:
    """Seen failing with the claim taken out: several of them then do the work."""
    for _ in range(5):
        counter = Counter()
        start = threading.Barrier(32)

        def twin(_: int, counter: Counter = counter, start: threading.Barrier = start) -> str:
            start.wait(10)
            try:
                return counter.run(keyed()).body.decode()
            except IdempotencyInProgress:
                return "in progress"

        with ThreadPoolExecutor(32) as pool:
            outcomes = set(pool.map(twin, range(32)))
        assert counter.runs == 1
        assert outcomes <= {"1", "in progress"}


def test_a_deadlock_repeats_the_whole_unit() -> None:
    """Two units that lock two keys in opposite order both end well."""
    first, second = Counter(), Counter()
    meet = threading.Barrier(2)

    def locking(*numbers: int) -> Callable[[Session], int]:
        tries: list[int] = []

        def work(session: Session) -> int:
            tries.append(1)
            session.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": numbers[0]})
            if len(tries) == 1:
                meet.wait(10)
            session.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": numbers[1]})
            return len(tries)

        return work

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.run, keyed(), locking(77, 78))
        two = pool.submit(second.run, keyed(), locking(78, 77))
        assert sorted([one.result(20).body, two.result(20).body]) == [b"1", b"2"]


def test_a_unit_that_always_deadlocks_is_unavailable() -> None:
    """After four attempts the client hears 503, and may repeat its key."""
    counter = Counter()

    def always(session: Session) -> int:
        counter.work(session)
        session.execute(text("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$"))
        return 0

    with pytest.raises(Unavailable):
        counter.run(keyed(), always)
    assert counter.runs == 4
    assert counter.run(keyed()).status == 201


def test_the_store_and_the_work_commit_together() -> None:
    """A row that the database refuses takes the work with it."""
    counter = Counter()
    with pytest.raises(Exception, match="ck_idempotency_keys_status"):
        once(
            actor=counter.actor,
            request=keyed(),
            work=counter.work,
            respond=lambda n: Answer(status=500, body=b""),
        )
    with transaction() as session:
        found = session.execute(
            text("SELECT count(*) FROM idempotency_keys WHERE user_id = :id"),
            {"id": counter.actor.user_id},
        )
        assert found.scalar() == 0


def stored_fingerprint(counter: Counter, sql: Callable[..., Any]) -> bytes:
    """Return what the only key of the counter's user is recognised by."""
    statement = "SELECT fingerprint FROM idempotency_keys WHERE user_id = :id"
    ((fingerprint,),) = sql(statement, id=counter.actor.user_id)
    return bytes(fingerprint)


def test_what_was_asked_can_not_be_guessed_from_what_is_stored(sql: Callable[..., Any]) -> None:
    """Without the master key nobody can try passwords, nor see that two users have the same."""
    first, second = Counter(), Counter()
    for counter in (first, second):
        counter.run(keyed())
    content = keyed().content
    guesses = {
        hashlib.sha256(before + content).digest()
        for before in (b"", b"k", first.actor.user_id.bytes)
    }
    assert stored_fingerprint(first, sql) not in guesses
    assert stored_fingerprint(first, sql) != stored_fingerprint(second, sql)


@pytest.fixture
def keys_of_masters(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that puts the keys made from other master keys in, until the test ends."""
    return partial(monkeypatch.setattr, idempotency, "_fingerprint_keys")


def test_a_repeat_is_recognised_after_the_master_key_was_changed(
    keys_of_masters: Callable[..., None], sql: Callable[..., Any]
) -> None:
    """As long as the old one is known; what is stored from now on belongs to the new one."""
    old, new = b"o" * 32, b"n" * 32
    counter = Counter()
    keys_of_masters([old])
    counter.run(keyed())
    made_by_old = stored_fingerprint(counter, sql)
    keys_of_masters([new, old])
    assert counter.run(keyed()).replayed
    with pytest.raises(IdempotencyKeyReused):
        counter.run(keyed(content=b"something else"))
    later = replace(counter.actor, user_id=ids.new())
    counter.actor = later
    counter.run(keyed())
    assert stored_fingerprint(counter, sql) != made_by_old
    keys_of_masters([new])
    assert counter.run(keyed()).replayed
