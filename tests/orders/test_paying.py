"""Orders are paid with credits, once, and refunded up to what was paid."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from app.credits import verification
from tests.client import Client, new_key
from tests.credits.sending import available, code, send
from tests.orders.buying import ORDERS, order_of, place, step
from tests.shop import make_order, make_product


@pytest.fixture
def finance(make_user: Any) -> Any:
    """Staff who may refund."""
    return make_user(roles=("finance",))


def test_paying_moves_the_total_to_revenue(client: Client, make_user: Any, sql: Any) -> None:
    user, coffee = make_user(credits=600), make_product(price=250)
    placed = place(client, user, (coffee.sku, 2)).json
    answer = step(client, user, placed["id"], "pay")
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    paid = answer.json
    assert paid == placed | {"status": "paid", "paid_at": paid["paid_at"]}
    assert paid["paid_at"].endswith("Z")
    assert order_of(client, user, placed["id"]) == paid
    assert available(client, user) == 100
    entry = client.get("/api/v1/credits/entries", token=user.token).json["items"][0]
    assert (entry["kind"], entry["amount"]) == ("payment", -500)
    transfer = client.get(f"/api/v1/credits/transfers/{entry['transfer_id']}", token=user.token)
    assert transfer.json["order_id"] == placed["id"]
    assert transfer.json["to_user_id"] is None
    events = sql(
        "SELECT action, details FROM audit_events WHERE subject_id = :id ORDER BY created_at, id",
        id=placed["id"],
    )
    assert [tuple(row) for row in events] == [
        ("orders.order.placed", {"total": 500}),
        ("orders.order.paid", {"total": 500, "transfer_id": entry["transfer_id"]}),
    ]
    assert list(verification.verify()) == []


def test_without_enough_credits_an_order_stays_payable(client: Client, make_user: Any) -> None:
    user, friend = make_user(credits=5), make_user(credits=5)
    order_id = make_order(user.id)
    refused = step(client, user, order_id, "pay")
    assert (refused.status_code, code(refused)) == (402, "INSUFFICIENT_CREDITS")
    assert refused.json["error"]["details"] == {"available": 5, "required": 10}
    send(client, friend, user.id, 5)
    assert step(client, user, order_id, "pay").json["status"] == "paid"


def test_what_is_free_is_paid_without_a_transfer(client: Client, make_user: Any, sql: Any) -> None:
    user = make_user()
    order_id = make_order(user.id, price=0)
    assert step(client, user, order_id, "pay").json["status"] == "paid"
    assert sql("SELECT FROM transfers WHERE order_id = :id", id=order_id) == []


def test_an_order_is_paid_once_and_a_repeat_gets_the_same_answer(
    client: Client, make_user: Any
) -> None:
    user, key = make_user(credits=100), new_key()
    order_id = make_order(user.id)
    path = f"{ORDERS}/{order_id}/pay"
    first = client.post(path, token=user.token, key=key)
    again = client.post(path, token=user.token, key=key)
    assert (again.data, again.headers["ETag"]) == (first.data, first.headers["ETag"])
    assert again.headers["Idempotent-Replayed"] == "true"
    refused = step(client, user, order_id, "pay")
    assert (refused.status_code, code(refused)) == (409, "INVALID_STATE")
    assert refused.json["error"]["details"] == {"status": "paid"}
    assert available(client, user) == 90


def test_past_its_time_an_order_is_not_paid_whatever_the_job_has_done(
    client: Client, make_user: Any
) -> None:
    user = make_user(credits=100)
    order_id = make_order(user.id)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=24, seconds=1), tick=False):
        # The access token has run out as well.
        again = client.post(
            "/api/v1/auth/login", json={"email": user.email, "password": user.password}
        ).json["access_token"]
        refused = client.post(f"{ORDERS}/{order_id}/pay", token=again, key=new_key())
    assert (refused.status_code, code(refused)) == (409, "INVALID_STATE")
    assert order_of(client, user, order_id)["status"] == "placed"


def test_refunds_go_back_up_to_the_payment(client: Client, make_user: Any, finance: Any) -> None:
    user = make_user(credits=100)
    order_id = make_order(user.id, paid=True)
    part = step(client, finance, order_id, "refund", amount=4, reason="Broken")
    assert part.status_code == 200
    assert (part.json["status"], part.json["refunded"]) == ("partially_refunded", 4)
    too_much = step(client, finance, order_id, "refund", amount=7, reason="Broken")
    assert (too_much.status_code, code(too_much)) == (409, "REFUND_EXCEEDS_PAYMENT")
    assert too_much.json["error"]["details"] == {"refundable": 6}
    rest = step(client, finance, order_id, "refund", reason="All of it").json
    assert (rest["status"], rest["refunded"]) == ("refunded", 10)
    more = step(client, finance, order_id, "refund", reason="Again")
    assert code(more) == "REFUND_EXCEEDS_PAYMENT"
    assert available(client, user) == 100
    entry = client.get("/api/v1/credits/entries", token=user.token).json["items"][0]
    assert (entry["kind"], entry["amount"], entry["memo"]) == ("refund", 6, "All of it")
    assert list(verification.verify()) == []


def test_what_is_not_paid_is_not_refunded(client: Client, make_user: Any, finance: Any) -> None:
    user = make_user()
    refused = step(client, finance, make_order(user.id), "refund", reason="Why not")
    assert (refused.status_code, code(refused)) == (409, "INVALID_STATE")
    free = make_order(user.id, price=0, paid=True)
    assert code(step(client, finance, free, "refund", reason="x")) == "REFUND_EXCEEDS_PAYMENT"


def test_a_refund_posts_to_whoever_is_going(client: Client, make_user: Any, finance: Any) -> None:
    user = make_user(credits=10)
    order_id = make_order(user.id, paid=True)
    leave = {"password": user.password}
    assert client.delete("/api/v1/users/me", json=leave, token=user.token).status_code == 202
    assert step(client, finance, order_id, "refund", reason="Sorry").status_code == 200
    path = f"/api/v1/users/{user.id}/credits"
    assert client.get(path, token=finance.token).json["balance"] == 10


def test_nobody_refunds_themself(client: Client, make_user: Any) -> None:
    finance = make_user(credits=10, roles=("finance",))
    refused = step(client, finance, make_order(finance.id, paid=True), "refund", reason="Mine")
    assert (refused.status_code, code(refused)) == (403, "FORBIDDEN")


def test_a_payment_goes_back_by_the_orders_refund_only(
    client: Client, make_user: Any, finance: Any, sql: Any
) -> None:
    user = make_user(credits=10)
    order_id = make_order(user.id, paid=True)
    ((payment,),) = sql("SELECT id FROM transfers WHERE order_id = :id", id=order_id)
    path = f"/api/v1/credits/transfers/{payment}/reverse"
    refused = client.post(path, json={"reason": "x"}, token=finance.token, key=new_key())
    assert code(refused) == "NOT_REVERSIBLE"
