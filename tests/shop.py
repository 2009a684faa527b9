"""Fills the catalogue with the product's own functions."""

from typing import Any
from uuid import UUID, uuid4

from app.orders import discounts, products, service
from app.orders.models import CatalogueRow
from app.platform.actor import Actor
from app.platform.db import transaction

OPERATOR = Actor(kind="cli")


def make_product(**values: Any) -> CatalogueRow:
    """Return a new product, with a SKU that no other has unless one is given."""
    wanted = {"sku": uuid4().hex, "name": "Test Product", "price": 10, "active": True}
    with transaction() as session:
        return products.create_product(session, actor=OPERATOR, **(wanted | values))


def make_discount(**values: Any) -> CatalogueRow:
    """Return a new discount of 10 % without limits; the percent is given in hundredths."""
    wanted: dict[str, Any] = {
        "code": uuid4().hex,
        "percent": 1000,
        "max_redemptions": None,
        "starts_at": None,
        "ends_at": None,
        "active": True,
    }
    with transaction() as session:
        return discounts.create_discount(session, actor=OPERATOR, **(wanted | values))


def make_order(user_id: UUID, *, paid: bool = False, price: int = 10) -> UUID:
    """Return the id of a new order of a user's for one product; to pay it they need the credits."""
    buyer = Actor(kind="user", user_id=user_id)
    items = [{"sku": make_product(price=price).sku, "quantity": 1}]
    with transaction() as session:
        placed = service.place(
            session, actor=buyer, items=items, discount_code=None, expected_total=None
        )
    order_id: UUID = placed["id"]
    if paid:
        with transaction() as session:
            service.pay(session, actor=buyer, order_id=order_id)
    return order_id
