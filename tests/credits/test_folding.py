"""Deltas of the house are folded into its balances, and at no moment does anybody see a change."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from app.credits import keeping, ledger, service, verification
from app.credits.values import ISSUANCE_ID, REVENUE_ID
from app.platform.actor import Actor
from app.platform.db import is_retryable, reading, transaction
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from tests.credits.test_concurrency import watched
from tests.people import TestUser
from tests.racing import at_once

MakeUser = Callable[..., TestUser]
SYSTEM = Actor(kind="system")
# All of one moment, because it is one statement.
HOUSE = text(
    "SELECT (SELECT sum(balance) FROM accounts WHERE kind <> 'user')"
    " + coalesce((SELECT sum(amount) FROM account_deltas), 0)"
    " + (SELECT sum(balance) FROM accounts WHERE kind = 'user')"
)
DELTAS = text("SELECT count(*) FROM account_deltas")
BALANCES = text("SELECT id, balance FROM accounts WHERE kind <> 'user'")


def look(statement: Any) -> int:
    with reading() as connection:
        return int(connection.execute(statement).scalar_one())


def grant(user_id: Any, amount: int) -> None:
    with transaction() as session:
        service.grant(session, actor=SYSTEM, user_id=user_id, amount=amount, memo="For a test")


def charge(user_id: Any, amount: int) -> None:
    with transaction() as session:
        service.charge(session, actor=SYSTEM, user_id=user_id, amount=amount, memo="For a test")


def balances() -> dict[Any, int]:
    with reading() as connection:
        return {row.id: row.balance for row in connection.execute(BALANCES)}


@pytest.mark.usefixtures("empty_database")
def test_folding_adds_all_deltas_to_the_balances_and_leaves_none(make_user: MakeUser) -> None:
    ada = make_user(credits=100)
    for amount in (1, 2, 3):
        charge(ada.id, amount)
    assert balances() == {ISSUANCE_ID: 0, REVENUE_ID: 0}
    assert keeping.fold_all() == 4
    assert (balances(), look(DELTAS)) == ({ISSUANCE_ID: -100, REVENUE_ID: 6}, 0)
    assert keeping.fold_all() == 0
    assert list(verification.verify()) == []


@pytest.mark.usefixtures("empty_database")
def test_folding_goes_on_until_fewer_than_a_batch_are_left(
    make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FOLDED_AT_ONCE", 3)
    ada = make_user()
    for _ in range(7):
        grant(ada.id, 5)
    assert (keeping.fold_all(), look(DELTAS)) == (7, 0)


@pytest.mark.usefixtures("empty_database")
def test_nothing_is_folded_while_the_books_are_frozen(make_user: MakeUser) -> None:
    make_user(credits=5)
    keeping.freeze(actor=SYSTEM, reason="For a test")
    assert (keeping.fold_all(), look(DELTAS)) == (0, 1)
    keeping.unfreeze(actor=SYSTEM)
    assert (keeping.fold_all(), look(DELTAS)) == (1, 0)


def test_what_the_house_holds_is_the_same_at_every_moment_while_many_post_and_fold(
    empty_database: Settings, make_user: MakeUser
) -> None:
    users = [make_user(credits=1_000).id for _ in range(5)]

    def fold_some() -> int:
        try:
            with transaction() as session:
                return ledger.fold(session, most=3)
        except Unavailable as fault:
            # Folders may lock the two accounts crosswise, and then one of them begins anew.
            if not is_retryable(fault):
                raise
            return 0

    def work(index: int) -> int:
        if index < 4:
            return sum(fold_some() for _ in range(60))
        dice = random.Random(index)
        for _ in range(40):
            dice.choice((grant, charge))(dice.choice(users), dice.randint(1, 20))
        return 0

    with watched(lambda: look(HOUSE)) as seen:
        folded = sum(at_once(work, 10))
    assert folded > 0
    assert len(seen) > 10
    assert set(seen) == {0}
    rest = look(DELTAS)
    assert folded + rest == len(users) + 6 * 40
    assert keeping.fold_all() == rest
    assert look(DELTAS) == 0
    assert sum(balances().values()) == look(HOUSE) - look(
        text("SELECT sum(balance) FROM accounts WHERE kind = 'user'")
    )
    assert list(verification.verify()) == []
