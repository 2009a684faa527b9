"""Of many who end one hold, or take one transfer back, at the same moment, exactly one does."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.credits import holds, verification
from app.credits.errors import HoldEnded
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import transaction
from tests.client import Client, new_key
from tests.credits.sending import BALANCE, TRANSFERS, send
from tests.racing import ROUNDS, RUNNERS, at_once
from tests.tracing import unfollowed
from tests.watching import transaction_of_another, wait_until_somebody_waits_for

pytestmark = unfollowed

HOLDS = "/api/v1/credits/holds"
LOCK = text("SELECT FROM holds WHERE id = :id FOR NO KEY UPDATE")
RELEASE = text("SELECT status FROM release_hold_v1(:id, 'released', :now)")


def place(client: Client, user: Any, amount: int) -> str:
    """Set credits aside, and return the id of the hold."""
    body = {"amount": amount}
    return str(client.post(HOLDS, json=body, token=user.token, key=new_key()).json["id"])


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_hold_is_captured_or_released_once(
    client: Client, make_user: Any, round_number: int
) -> None:
    user = make_user(credits=100)
    hold_id = place(client, user, 40)

    def end(runner: int) -> tuple[str, int]:
        how = "capture" if runner % 2 else "release"
        path = f"{HOLDS}/{hold_id}/{how}"
        answer = client.post(path, json={}, token=user.token, key=new_key())
        return how, answer.status_code

    ended = at_once(end, RUNNERS)
    assert sorted(status for _, status in ended) == [200] + [409] * (RUNNERS - 1)
    (how,) = (how for how, status in ended if status == 200)
    left = 60 if how == "capture" else 100
    assert client.get(BALANCE, token=user.token).json == {
        "balance": left, "held": 0, "available": left,
    }  # fmt: skip
    assert list(verification.verify()) == []


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_transfer_is_reversed_once(client: Client, make_user: Any, round_number: int) -> None:
    ada, bob, finance = make_user(credits=100), make_user(), make_user(roles=("finance",))
    # With more than the reversal takes: nothing but the rule keeps the second one from posting.
    grants = [send(client, ada, bob.id, 10).json for _ in range(3)]

    def reverse(_runner: int) -> int:
        path = f"{TRANSFERS}/{grants[0]['id']}/reverse"
        body = {"reason": "Sent twice"}
        return client.post(path, json=body, token=finance.token, key=new_key()).status_code

    assert sorted(at_once(reverse, RUNNERS)) == [201] + [409] * (RUNNERS - 1)
    assert client.get(BALANCE, token=bob.token).json["balance"] == 20
    assert list(verification.verify()) == []


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_hold_is_captured_within_its_time_or_expires(
    client: Client, make_user: Any, round_number: int
) -> None:
    """Its time ends while some capture it and others do the job that frees what is over.

    Seen failing without the lock on the hold.
    """
    user = make_user(credits=100)
    owner = Actor(kind="user", user_id=user.id)
    with transaction() as session:
        held = holds.place(
            session, actor=owner, amount=40, user_id=None, memo=None,
            expires_in=timedelta(seconds=0.3),
        )  # fmt: skip

    def end(runner: int) -> list[str]:
        """Try until it is over, from shortly before to shortly after; return what was done."""
        done = []
        while clock.now() < held.expires_at + timedelta(seconds=0.1):
            if runner % 2:
                done += ["expired"] * holds.expire_due()
            elif clock.now() > held.expires_at - timedelta(seconds=0.002):
                with suppress(HoldEnded), transaction() as session:
                    captured = holds.capture(session, actor=owner, hold_id=held.id, amount=None)
                    done.append(captured.status)
        return done

    ((how,),) = [done for done in at_once(end, 8) if done]
    left = 60 if how == "captured" else 100
    balance = client.get(BALANCE, token=user.token).json
    assert balance == {"balance": left, "held": 0, "available": left}
    assert list(verification.verify()) == []


def test_whoever_lets_all_go_waits_for_one_hold_without_keeping_the_account(
    client: Client, make_user: Any, owner_engine: Engine
) -> None:
    """Seen failing while they were freed one by one: each waited for what the other had locked."""
    user = make_user(credits=100)
    _, second = sorted(place(client, user, 10) for _ in range(2))
    owner = Actor(kind="user", user_id=user.id)

    def let_all_go() -> None:
        with transaction() as session:
            holds.release_all(session, actor=owner, user_id=user.id)

    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(LOCK, {"id": second})
            letting_go = thread.submit(let_all_go)
            wait_until_somebody_waits_for(connection)
            parameters = {"id": second, "now": clock.now()}
            assert connection.scalar(RELEASE, parameters) == "released"
        letting_go.result(10)
    balance = client.get(BALANCE, token=user.token).json
    assert balance == {"balance": 100, "held": 0, "available": 100}
    assert list(verification.verify()) == []
