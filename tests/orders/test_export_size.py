"""The file of orders takes no more memory for many orders than for few."""

import os
from typing import Any

import psutil
from flask import Flask
from sqlalchemy import text

from app.platform.db import transaction
from tests.shop import make_product
from tests.tracing import unfollowed

pytestmark = unfollowed

# `make test-long` takes a million.
ROWS = int(os.environ.get("TEST_ORDERS", "12000"))
# Those of the last 2,000 seconds before March, one in each.
LAST_PAGES = "2026-02-28T23:26:39.5Z"
GROWTH_BYTES = 8 << 20
FILL = """
WITH made AS (
    INSERT INTO orders (id, user_id, status, subtotal, discount, total, created_at, expires_at)
    SELECT gen_random_uuid(), :user, 'placed', 10, 0, 10,
        timestamptz '2026-03-01Z' - n * interval '1 second', '2099-01-01Z'
    FROM generate_series(1, :rows) AS n
    RETURNING id
)
INSERT INTO order_items (order_id, position, product_id, sku, name, unit_price, quantity, total)
SELECT id, 1, :product, 'coffee', '=Coffee', 10, 1, 10 FROM made
"""


def test_its_memory_does_not_grow_with_its_length(app: Flask, make_user: Any) -> None:
    user, product = make_user(), make_product()
    with transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(text(FILL), {"user": user.id, "product": product.id, "rows": ROWS})
    # What statements, buffers and a page need, is there after a short one.
    short, needed = fetched(app, user.token, f"?created_after={LAST_PAGES}")
    assert short == 2001
    lines, most = fetched(app, user.token)
    assert lines == ROWS + 1
    assert most - needed < GROWTH_BYTES


def fetched(app: Flask, token: str, query: str = "") -> tuple[int, int]:
    """Return how many lines the file has, and the most memory that was in use meanwhile."""
    process, lines, most = psutil.Process(), 0, 0
    answer = app.test_client().get(
        f"/api/v1/orders/export.csv{query}", headers={"Authorization": f"Bearer {token}"}
    )
    for piece in answer.iter_encoded():
        lines += piece.count(b"\r\n")
        if lines % 500 == 0:
            most = max(most, process.memory_info().rss)
    return lines, most
