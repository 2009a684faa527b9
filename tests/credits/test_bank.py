"""A bank with many customers at once: at every moment its books are right, and nobody deadlocks."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.credits import verification
from app.orders import service as orders
from app.platform.db import reading
from app.platform.settings import Settings
from tests.banking import ACTIONS, Customer, make_bank
from tests.racing import RUNNERS, SECONDS, at_once
from tests.tracing import unfollowed

pytestmark = unfollowed

CREDITS = 300
# Of one moment, for it is one statement: the sum of everything, and the least somebody can spend.
BALANCES = text(
    "SELECT sum(balance) + coalesce((SELECT sum(amount) FROM account_deltas), 0),"
    " min(balance - held) FILTER (WHERE kind = 'user'), min(held) FROM accounts"
)
PAID = (
    "SELECT coalesce(sum(total - refunded), 0) FROM orders"
    " WHERE status IN ('paid', 'partially_refunded', 'refunded')"
)
TAKEN = (
    "SELECT coalesce(sum(CASE kind WHEN 'payment' THEN amount ELSE -amount END), 0) FROM transfers"
    " WHERE kind IN ('payment', 'refund')"
)
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@contextmanager
def looking(look: Callable[[], object]) -> Iterator[list[object]]:
    """Look again and again while the body runs; give the list that it all ends up in."""
    seen: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            seen.append(look())

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield seen
        finally:
            done.set()
        watching.result()


def scalar(statement: str) -> Any:
    with reading() as connection:
        return connection.execute(text(statement)).scalar_one()


@pytest.mark.parametrize("accounts", [10, 1000])
def test_the_books_of_a_busy_bank_are_right_at_every_moment(
    empty_database: Settings, accounts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing without the accounts' locks, and with them in the order of the transfer."""
    # Some orders run out meanwhile.
    monkeypatch.setattr(orders, "LIFETIME", timedelta(seconds=1))
    bank = make_bank(accounts, credits=CREDITS)
    customers = [Customer(bank, seed) for seed in range(RUNNERS)]
    # Each thing succeeds once, before it can be refused at the same time as others do it.
    while len(customers[0].done) < len({*ACTIONS}):
        customers[0].act(random.choice(ACTIONS))
    engine = create_engine(empty_database.database_migration_url, poolclass=NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def balances() -> tuple[int, int, int]:
            total, available, held = connection.execute(BALANCES).one()
            return int(total), available, held

        with looking(balances) as seen, looking(lambda: [*verification.verify()]) as checks:
            # A deadlock would end one of these with an exception.
            at_once(lambda number: customers[number].run(SECONDS), RUNNERS)
    assert seen
    assert [moment for moment in seen if _is_wrong(moment)] == []
    assert checks
    assert [differences for differences in checks if differences] == []
    done = sum((customer.done for customer in customers), Counter[str]())
    assert done.total() > RUNNERS
    assert list(verification.verify()) == []
    assert scalar(PAID) == scalar(TAKEN)
    assert scalar(DEADLOCKS) == 0


def _is_wrong(moment: Any) -> bool:
    total, available, held = moment
    return bool(total != 0 or available < 0 or held < 0)
