"""Each step of an order is counted and logged once it is committed."""

from typing import Any

import orjson
import pytest

from tests.client import Client
from tests.orders.buying import place, step
from tests.shop import make_product


def counted(client: Client, name: str) -> float:
    line = f'orders_processed_total{{step="{name}"}} '
    found = [each for each in client.get("/metrics").text.splitlines() if each.startswith(line)]
    return float(found[0].removeprefix(line)) if found else 0.0


def test_placing_and_paying_are_counted_and_logged(
    client: Client, make_user: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    user = make_user(credits=10)
    before = [counted(client, name) for name in ("place_order", "pay_order")]
    order_id = place(client, user, (make_product().sku, 1)).json["id"]
    step(client, user, order_id, "pay")
    step(client, user, order_id, "pay")
    after = [counted(client, name) for name in ("place_order", "pay_order")]
    assert after == [count + 1 for count in before]
    written = capfd.readouterr()
    lines = [orjson.loads(each) for each in (written.out + written.err).splitlines()]
    told = [each for each in lines if each.get("order_id") == order_id]
    assert [each["event"] for each in told] == ["place_order", "pay_order"]
    assert told[1]["transfer_id"] in {
        each["transfer_id"] for each in lines if each["event"] == "transfer"
    }
