"""Buys over HTTP, and looks at what came of it."""

from typing import Any
from uuid import UUID

from tests.client import Client, new_key

ORDERS = "/api/v1/orders"


def place(client: Client, user: Any, *items: tuple[str, int], **options: Any) -> Any:
    """Place an order of SKUs and quantities with a new key, unless `key` says otherwise."""
    body = {"items": [{"sku": sku, "quantity": quantity} for sku, quantity in items]}
    options.setdefault("key", new_key())
    return client.post(ORDERS, json=body | options.pop("more", {}), token=user.token, **options)


def step(client: Client, user: Any, order_id: Any, name: str, **body: Any) -> Any:
    """Pay, cancel, fulfil or refund an order."""
    path = f"{ORDERS}/{order_id}/{name}"
    return client.post(path, json=body, token=user.token, key=new_key())


def order_of(client: Client, user: Any, order_id: UUID | str) -> Any:
    """Return an order as a user sees it."""
    return client.get(f"{ORDERS}/{order_id}", token=user.token).json
