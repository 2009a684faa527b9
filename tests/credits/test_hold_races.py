"""Of many who end one hold, or take one transfer back, at the same moment, exactly one does."""

from typing import Any

import pytest

from app.credits import verification
from tests.client import Client, new_key
from tests.credits.sending import BALANCE, TRANSFERS, send
from tests.racing import ROUNDS, RUNNERS, at_once
from tests.tracing import unfollowed

pytestmark = unfollowed

HOLDS = "/api/v1/credits/holds"


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_a_hold_is_captured_or_released_once(
    client: Client, make_user: Any, round_number: int
) -> None:
    user = make_user(credits=100)
    held = client.post(HOLDS, json={"amount": 40}, token=user.token, key=new_key()).json

    def end(runner: int) -> tuple[str, int]:
        how = "capture" if runner % 2 else "release"
        path = f"{HOLDS}/{held['id']}/{how}"
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
