"""A freeze is waited for, holds for what is under way, and for whatever finds another way in."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.credits import keeping, service, state, verification
from app.credits.errors import LedgerFrozen
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.settings import Settings
from tests.credits.plain_sql import connected
from tests.racing import ROUNDS, at_once
from tests.tracing import unfollowed
from tests.watching import wait_until_waiting

pytestmark = [unfollowed, pytest.mark.usefixtures("empty_database")]

OPERATOR = Actor(kind="cli")
NOW = {"now": "2026-01-01T00:00:00Z"}
# What the processes call that a release replaces, and nobody else.
OLD_WAYS = ("post_transfer_v1", "post_transfer_v2")
OLD_CALL = (
    "SELECT * FROM {}(:new, 'transfer', :alice, :bob, 3, :alice, 'user', NULL, NULL, :now, :new2,"
    " :new3)"
)
# What the ledger's functions do, without asking whether they may.
PAST_THE_FUNCTIONS = (
    "INSERT INTO transfers (id, kind, amount, from_account_id, to_account_id, actor_kind,"
    " created_at) VALUES (:new, 'transfer', 3, :alice, :bob, 'system', :now)",
    "INSERT INTO holds (id, account_id, amount, placed_by, expires_at, created_at)"
    " VALUES (:new, :alice, 3, :alice, timestamptz '2026-01-02Z', :now)",
    "UPDATE holds SET status = 'released', ended_at = :now",
)


def move(session: Session, alice: Any, bob: Any) -> None:
    """Send a credit, in the caller's transaction."""
    actor = Actor(kind="user", user_id=alice)
    service.transfer(session, actor=actor, to_user_id=bob, amount=1, memo=None)


def send(alice: Any, bob: Any) -> None:
    """Send a credit, in a transaction of its own."""
    with transaction() as session:
        move(session, alice, bob)


def balance(user_id: Any) -> int:
    """Return what an account holds."""
    statement = text("SELECT balance FROM accounts WHERE id = :id")
    with reading() as connection:
        return int(connection.execute(statement, {"id": user_id}).scalar_one())


@pytest.mark.parametrize("function", OLD_WAYS)
def test_the_functions_of_an_earlier_release_post_nothing_while_it_is_frozen(
    books: dict[str, Any], function: str
) -> None:
    """Seen failing without the trigger: these never asked."""
    call = text(OLD_CALL.format(function))
    values = {**books, **NOW, "new3": ids.new()}
    keeping.freeze(actor=OPERATOR, reason="For a test")
    with pytest.raises(DBAPIError) as refused, transaction() as session:
        session.execute(call, values)
    assert getattr(refused.value.orig, "pgcode", None) == "AC503"
    keeping.unfreeze(actor=OPERATOR)
    with transaction() as session:
        session.execute(call, values)
    assert (balance(books["bob"]), list(verification.verify())) == (83, [])


@pytest.mark.parametrize("statement", PAST_THE_FUNCTIONS)
def test_the_tables_themselves_refuse_while_it_is_frozen(
    empty_database: Settings, books: dict[str, Any], statement: str
) -> None:
    keeping.freeze(actor=OPERATOR, reason="For a test")
    with (
        pytest.raises(DBAPIError) as refused,
        connected(empty_database.database_migration_url) as connection,
    ):
        connection.execute(text(statement), books | NOW)
    assert getattr(refused.value.orig, "pgcode", None) == "AC503"


def test_a_freeze_is_done_once_what_was_under_way_is(books: dict[str, Any]) -> None:
    """Seen failing without the lock of whoever posts: it was done at once, and then came this."""
    alice, bob = books["alice"], books["bob"]
    with ThreadPoolExecutor(1) as thread:
        with transaction() as session:
            move(session, alice, bob)
            freezing = thread.submit(keeping.freeze, actor=OPERATOR, reason="For a test")
            with reading() as connection:
                wait_until_waiting(connection, 1)
            # Nothing new begins meanwhile.
            assert state.read().frozen_at is not None
            with pytest.raises(LedgerFrozen):
                send(alice, bob)
            assert not freezing.done()
        freezing.result(10)
    assert balance(bob) == 81


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_after_a_freeze_the_books_stay_as_they_are(
    books: dict[str, Any], round_number: int
) -> None:
    """Seen failing without the lock of whoever posts."""
    alice, bob = books["alice"], books["bob"]

    def work(runner: int) -> int:
        if runner == 0:
            time.sleep(0.05)
            keeping.freeze(actor=OPERATOR, reason="For a test")
            return balance(bob)
        try:
            while True:
                send(bob, alice)
                send(alice, bob)
        except LedgerFrozen:
            return 0

    frozen_at, *_ = at_once(work, 8)
    assert balance(bob) == frozen_at
    assert list(verification.verify()) == []
