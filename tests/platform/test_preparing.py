"""What is too slow for a transaction is prepared before it, and only if there is work to do."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.platform.db import transaction
from app.platform.errors import AppError, IdempotencyKeyReused, Invalid, NotFound, Unavailable
from app.platform.idempotency import Outdated
from tests.platform.counting import Counter, keyed

pytestmark = pytest.mark.usefixtures("app")


class Preparation:
    """Notes each time that something was prepared, and what had been done by then."""

    def __init__(self, counter: Counter) -> None:
        """Belong to a counter."""
        self.counter = counter
        self.seen: list[int] = []

    def __call__(self) -> None:
        """Prepare; there is no transaction, for what may be slow happens here."""
        self.seen.append(self.counter.runs)


@pytest.mark.parametrize("key", ["k", None])
def test_it_is_prepared_before_the_work_and_outside_of_its_transaction(key: str | None) -> None:
    counter = Counter()
    held: list[int] = []

    def prepare() -> None:
        with transaction() as session:
            idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            where = " AND datname = current_database()"
            held.append(session.scalar(text(idle + where)) or 0)

    assert counter.run(keyed(key), prepare=prepare).body == b"1"
    assert held == [0]


def test_nothing_is_prepared_for_a_repeat() -> None:
    """Its answer is the first one, though preparing might be refused by now."""
    counter = Counter()
    preparation = Preparation(counter)
    counter.run(keyed(), prepare=preparation)
    assert counter.run(keyed(), prepare=preparation).replayed
    assert preparation.seen == [0]
    with pytest.raises(IdempotencyKeyReused):
        counter.run(keyed(content=b"something else"), prepare=preparation)
    assert preparation.seen == [0]


def test_a_twin_that_is_refused_because_of_the_first_has_its_answer() -> None:
    """Both had looked for an answer in vain, and the first made the second impossible."""
    counter = Counter()

    def too_late() -> None:
        assert counter.run(keyed()).body == b"1"
        raise Invalid

    answer = counter.run(keyed(), prepare=too_late)
    assert (answer.body, answer.replayed, counter.runs) == (b"1", True, 1)


@pytest.mark.parametrize(("refusal", "final"), [(NotFound, True), (Invalid, False)])
def test_a_refusal_to_prepare_is_like_one_of_the_work(refusal: type[AppError], final: bool) -> None:
    """404 is an answer and stored; 422 leaves the key free."""
    counter = Counter()

    def refused() -> None:
        raise refusal

    if final:
        assert counter.run(keyed(), prepare=refused).status == refusal.status
    else:
        with pytest.raises(refusal):
            counter.run(keyed(), prepare=refused)
    assert counter.run(keyed()).replayed is final


def test_what_was_prepared_in_vain_is_prepared_again() -> None:
    """Four times at most; nothing is stored while it stays in vain."""
    counter = Counter()
    preparation = Preparation(counter)

    def third_time(session: Session) -> int:
        if counter.work(session) < 3:
            raise Outdated
        return counter.runs

    assert counter.run(keyed(), third_time, preparation).body == b"3"
    assert preparation.seen == [0, 1, 2]

    def never(session: Session) -> int:
        counter.work(session)
        raise Outdated

    with pytest.raises(Unavailable):
        counter.run(keyed("other"), never, preparation)
    assert preparation.seen == [0, 1, 2, 3, 4, 5, 6]
    assert counter.run(keyed("other")).body == b"8"
