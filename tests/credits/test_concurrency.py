"""Many at once: the books stay right, nothing is spent twice, and nobody waits in a circle."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from app.credits import service, verification
from app.credits.errors import InsufficientCredits, RecipientNotFound
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.settings import Settings
from tests.client import Client, new_key
from tests.people import SET_STATUS
from tests.racing import ROUNDS, at_once
from tests.tracing import unfollowed
from tests.watching import transaction_of_another, wait_until_somebody_waits_for

pytestmark = unfollowed

TRANSFERS = 50


def pay(sender_id: UUID, recipient_id: UUID, amount: int) -> bool:
    """Send credits in a transaction of its own; False when there aren't enough."""
    actor = Actor(kind="user", user_id=sender_id)
    try:
        with transaction() as session:
            service.transfer(
                session, actor=actor, to_user_id=recipient_id, amount=amount, memo=None
            )
    except InsufficientCredits:
        return False
    return True


@contextmanager
def watched(look: Callable[[], object]) -> Iterator[list[object]]:
    """Look again and again while the body runs; give the list that it all ends up in."""
    seen: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(look())

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield seen
        finally:
            done.set()
        watching.result()


def lowest_and_sum() -> tuple[int, int]:
    """Return the lowest of all users' balances, and their sum, of one moment."""
    with reading() as connection:
        row = connection.execute(
            text("SELECT min(balance - held), sum(balance) FROM accounts WHERE kind = 'user'")
        ).one()
    return row[0], int(row[1])


def test_random_transfers_leave_the_books_right_and_never_show_them_wrong(
    empty_database: Settings, make_user: Any
) -> None:
    users = [make_user(credits=100).id for _ in range(10)]

    def work(index: int) -> int:
        dice = random.Random(index)
        return sum(pay(*dice.sample(users, 2), dice.randint(1, 80)) for _ in range(TRANSFERS))

    with watched(lowest_and_sum) as balances, watched(lambda: [*verification.verify()]) as checks:
        # A deadlock would end one of these with an exception.
        made = sum(at_once(work, 16))
    assert 0 < made < 16 * TRANSFERS
    assert all(isinstance(seen, tuple) and seen[0] >= 0 and seen[1] == 1000 for seen in balances)
    assert balances
    assert checks
    assert [differences for differences in checks if differences] == []
    assert list(verification.verify()) == []
    with reading() as connection:
        posted = connection.execute(text("SELECT count(*) FROM transfers WHERE kind = 'transfer'"))
        assert posted.scalar_one() == made


def test_of_many_spends_of_one_balance_one_wins(make_user: Any) -> None:
    for _ in range(ROUNDS):
        spender, recipient = make_user(credits=100), make_user()

        def spend(_: int, sender: UUID = spender.id, to: UUID = recipient.id) -> bool:
            return pay(sender, to, 100)

        assert sorted(at_once(spend, 32)) == [False] * 31 + [True]


def test_of_many_requests_with_one_key_one_transfers(
    client: Client, make_user: Any, sql: Any
) -> None:
    for _ in range(ROUNDS):
        sender, recipient, key = make_user(credits=100), make_user(), new_key()
        body = {"to_user_id": str(recipient.id), "amount": 1}

        def request(_: int, token: str = sender.token, key: str = key, body: Any = body) -> Any:
            return client.post("/api/v1/credits/transfers", json=body, token=token, key=key)

        answers = at_once(request, 32)
        made = [answer for answer in answers if answer.status_code == 201]
        others = [answer for answer in answers if answer.status_code != 201]
        assert len({answer.data for answer in made}) == 1
        assert len([one for one in made if "Idempotent-Replayed" not in one.headers]) == 1
        for answer in others:
            assert answer.status_code == 409
            assert answer.json["error"]["code"] == "IDEMPOTENCY_IN_PROGRESS"
            assert answer.headers["Retry-After"] == "1"
        counted = sql("SELECT count(*) FROM transfers WHERE from_account_id = :id", id=sender.id)
        assert counted[0][0] == 1
        assert client.get("/api/v1/credits/balance", token=sender.token).json["balance"] == 99


def test_a_grant_does_not_wait_for_another_grant(make_user: Any) -> None:
    users, staff = [make_user().id, make_user().id], Actor(kind="system")
    # Both transactions are open at once: a lock on the house account would end in a time-out.
    with transaction() as first, transaction() as second:
        for session, user_id in zip((first, second), users, strict=True):
            service.grant(session, actor=staff, user_id=user_id, amount=5, memo="Welcome")


@pytest.mark.parametrize("status", ["deleting", "erased"])
def test_credits_do_not_arrive_at_a_user_whose_deletion_has_just_begun(
    make_user: Any, owner_engine: Engine, status: str
) -> None:
    sender, recipient = make_user(credits=100).id, make_user().id
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as deletion:
            deletion.execute(
                text("SELECT FROM accounts WHERE id = :id FOR NO KEY UPDATE"), {"id": recipient}
            )
            paying = thread.submit(pay, sender, recipient, 10)
            wait_until_somebody_waits_for(deletion)
            deletion.execute(
                text(SET_STATUS),
                {"id": recipient, "status": status},
            )
        with pytest.raises(RecipientNotFound):
            paying.result(timeout=5)
