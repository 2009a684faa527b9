"""Orders are placed at today's prices, and keep what they were made of."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orders import pricing
from tests.client import Client, new_key
from tests.credits.sending import code
from tests.orders.buying import ORDERS, order_of, place
from tests.shop import make_discount, make_product


def test_an_order_copies_what_it_is_made_of(
    client: Client, make_user: Any, admin: Any, sql: Any
) -> None:
    user, coffee, tea = make_user(), make_product(price=250), make_product(price=3, name="Tea")
    before = datetime.now(UTC)
    answer = place(client, user, (tea.sku, 2), (coffee.sku, 1))
    assert answer.status_code == 201
    made = dict(answer.json)
    assert answer.headers["Location"] == f"{ORDERS}/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert UUID(made.pop("id")).version == 7
    lasts = datetime.fromisoformat(made.pop("expires_at")) - before
    assert timedelta(hours=24) <= lasts < timedelta(hours=24, minutes=1)
    assert made.pop("created_at").endswith("Z")
    items = [
        {"product_id": str(tea.id), "sku": tea.sku, "name": "Tea", "unit_price": 3,
         "quantity": 2, "total": 6},
        {"product_id": str(coffee.id), "sku": coffee.sku, "name": "Test Product",
         "unit_price": 250, "quantity": 1, "total": 250},
    ]  # fmt: skip
    assert made == {
        "user_id": str(user.id), "status": "placed", "items": items, "subtotal": 256,
        "discount": 0, "total": 256, "refunded": 0, "paid_at": None, "fulfilled_at": None,
        "cancelled_at": None, "cancel_reason": None,
    }  # fmt: skip
    change = {"price": 999, "name": "Dearer", "active": False}
    path = f"/api/v1/products/{coffee.id}"
    assert client.patch(path, json=change, token=admin.token).status_code == 200
    assert order_of(client, user, answer.json["id"]) == answer.json
    ((actor_id, details),) = sql(
        "SELECT actor_id, details FROM audit_events WHERE subject_id = :id", id=answer.json["id"]
    )
    assert (actor_id, details) == (user.id, {"total": 256})


def test_what_is_not_for_sale_is_named(client: Client, make_user: Any) -> None:
    user, coffee, gone = make_user(), make_product(), make_product(active=False)
    refused = place(client, user, (coffee.sku, 1), ("none", 1), (gone.sku, 1), (coffee.sku, 2))
    assert (refused.status_code, code(refused)) == (422, "VALIDATION_ERROR")
    assert list(refused.json["error"]["details"]) == ["items.1.sku", "items.2.sku", "items.3.sku"]


def test_an_order_costs_what_was_expected_or_is_not_placed(client: Client, make_user: Any) -> None:
    user, coffee = make_user(), make_product(price=250)
    refused = place(client, user, (coffee.sku, 2), more={"expected_total": 499})
    assert (refused.status_code, code(refused)) == (409, "PRICE_CHANGED")
    assert refused.json["error"]["details"] == {"total": 500}
    assert place(client, user, (coffee.sku, 2), more={"expected_total": 500}).status_code == 201


def test_more_than_an_account_can_hold_is_refused(client: Client, make_user: Any) -> None:
    user = make_user()
    dear = make_product(price=10**12)
    refused = place(client, user, (dear.sku, 9_008))
    assert (refused.status_code, code(refused)) == (422, "VALIDATION_ERROR")
    assert list(refused.json["error"]["details"]) == ["items"]
    assert place(client, user, (dear.sku, 9_007)).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": [{"sku": "a", "quantity": 0}]}, "items.0.quantity"),
        ({"items": [{"sku": "a", "quantity": 10_001}]}, "items.0.quantity"),
        ({"items": [{"sku": "a", "quantity": "1"}]}, "items.0.quantity"),
        ({"items": [{"sku": "a b", "quantity": 1}]}, "items.0.sku"),
        ({"items": [{"sku": "a\n", "quantity": 1}]}, "items.0.sku"),
        ({"items": [{"sku": "a", "quantity": 1, "price": 1}]}, "items.0.price"),
        ({"items": [{"sku": "a", "quantity": 1}] * 101}, "items"),
        ({"items": [{"sku": "a", "quantity": 1}], "discount_code": ""}, "discount_code"),
        ({"items": [{"sku": "a", "quantity": 1}], "expected_total": -1}, "expected_total"),
    ],
)
def test_a_wrong_field_is_named(client: Client, make_user: Any, body: Any, field: str) -> None:
    refused = client.post(ORDERS, json=body, token=make_user().token, key=new_key())
    assert refused.status_code == 422
    assert list(refused.json["error"]["details"]) == [field]


def test_a_discount_takes_its_part_and_counts_the_redemption(
    client: Client, make_user: Any, sql: Any
) -> None:
    user, coffee = make_user(), make_product(price=999)
    spring = make_discount(code=f"Spring-{uuid4().hex}", percent=3333, max_redemptions=1)
    more = {"discount_code": spring.code.upper()}
    order = place(client, user, (coffee.sku, 1), more=more).json
    assert (order["subtotal"], order["discount"], order["total"]) == (999, 333, 666)
    used_up = place(client, user, (coffee.sku, 1), more=more)
    assert (used_up.status_code, code(used_up)) == (422, "DISCOUNT_NOT_APPLICABLE")
    stored = sql("SELECT redeemed FROM discounts WHERE id = :id", id=spring.id)
    assert stored == [(1,)]


@pytest.mark.parametrize(
    "values",
    [
        {"active": False},
        {"starts_at": datetime.now(UTC) + timedelta(hours=1)},
        {"ends_at": datetime.now(UTC) - timedelta(hours=1)},
    ],
)
def test_a_discount_counts_in_its_time_only(client: Client, make_user: Any, values: Any) -> None:
    user, coffee, spring = make_user(), make_product(), make_discount(**values)
    refused = place(client, user, (coffee.sku, 1), more={"discount_code": spring.code})
    assert code(refused) == "DISCOUNT_NOT_APPLICABLE"


def test_nobody_knows_of_a_discount_that_there_is_not(client: Client, make_user: Any) -> None:
    refused = place(
        client, make_user(), (make_product().sku, 1), more={"discount_code": "no-such-code"}
    )
    assert code(refused) == "DISCOUNT_NOT_APPLICABLE"


def test_a_refused_order_takes_no_redemption(client: Client, make_user: Any, sql: Any) -> None:
    spring = make_discount()
    more = {"discount_code": spring.code, "expected_total": 1}
    assert code(place(client, make_user(), (make_product().sku, 1), more=more)) == "PRICE_CHANGED"
    assert sql("SELECT redeemed FROM discounts WHERE id = :id", id=spring.id) == [(0,)]


@given(st.integers(0, 2**53 - 1), st.integers(0, 10_000))
def test_a_total_is_never_negative_and_off_by_less_than_one(amount: int, hundredths: int) -> None:
    total = pricing.reduced(amount, hundredths=hundredths)
    assert 0 <= total <= amount
    assert abs((amount - total) * 10_000 - amount * hundredths) <= 5_000
