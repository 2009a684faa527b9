"""Of many who do the same to one order, or want the last redemption, exactly one gets it."""

from typing import Any

import pytest

from app.credits import verification
from tests.client import Client, new_key
from tests.credits.sending import available
from tests.orders.buying import ORDERS, order_of, place, step
from tests.racing import ROUNDS, RUNNERS, at_once
from tests.shop import make_discount, make_order, make_product
from tests.tracing import unfollowed

pytestmark = unfollowed


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_an_order_is_paid_once(client: Client, make_user: Any, round_number: int) -> None:
    user = make_user(credits=1000)
    order_id = make_order(user.id)
    paid = at_once(lambda _: step(client, user, order_id, "pay").status_code, RUNNERS)
    assert sorted(paid) == [200] + [409] * (RUNNERS - 1)
    assert available(client, user) == 990
    assert list(verification.verify()) == []


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_the_last_of_an_order_is_refunded_once(
    client: Client, make_user: Any, round_number: int
) -> None:
    user, finance = make_user(credits=10), make_user(roles=("finance",))
    order_id = make_order(user.id, paid=True)
    step(client, finance, order_id, "refund", amount=4, reason="A part")

    def refund(_runner: int) -> int:
        return int(step(client, finance, order_id, "refund", amount=6, reason="All").status_code)

    assert sorted(at_once(refund, RUNNERS)) == [200] + [409] * (RUNNERS - 1)
    assert available(client, user) == 10
    assert list(verification.verify()) == []


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_an_order_is_paid_or_cancelled(client: Client, make_user: Any, round_number: int) -> None:
    user, spring = make_user(credits=1000), make_discount(percent=5000)
    more = {"discount_code": spring.code}
    order_id = place(client, user, (make_product().sku, 1), more=more).json["id"]

    def end(runner: int) -> int:
        path = f"{ORDERS}/{order_id}/{'pay' if runner % 2 else 'cancel'}"
        return client.post(path, token=user.token, key=new_key()).status_code

    assert sorted(at_once(end, RUNNERS)) == [200] + [409] * (RUNNERS - 1)
    status = order_of(client, user, order_id)["status"]
    assert (status, available(client, user)) in [("paid", 995), ("cancelled", 1000)]
    assert list(verification.verify()) == []


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_the_last_redemption_is_somebodys(
    client: Client, make_user: Any, sql: Any, round_number: int
) -> None:
    user, spring, sku = make_user(), make_discount(max_redemptions=1), make_product().sku
    more = {"discount_code": spring.code}
    placed = at_once(lambda _: place(client, user, (sku, 1), more=more).status_code, RUNNERS)
    assert sorted(placed) == [201] + [422] * (RUNNERS - 1)
    assert sql("SELECT redeemed FROM discounts WHERE id = :id", id=spring.id) == [(1,)]


@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_whoever_leaves_while_they_order_leaves_nothing_to_pay(
    client: Client, make_user: Any, sql: Any, round_number: int
) -> None:
    user, sku = make_user(), make_product().sku

    def leave_or_order(runner: int) -> int:
        if runner == 0:
            leave = {"password": user.password, "forfeit": True}
            return client.delete("/api/v1/users/me", json=leave, token=user.token).status_code
        return int(place(client, user, (sku, 1)).status_code)

    answers = at_once(leave_or_order, 8)
    assert answers[0] == 202
    assert set(answers[1:]) <= {201, 401}
    payable = sql("SELECT FROM orders WHERE user_id = :id AND status = 'placed'", id=user.id)
    assert payable == []
