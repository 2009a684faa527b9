"""What every operation with an idempotency key keeps to, whichever it is."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.client import Client, new_key
from tests.people import TestUser
from tests.platform.refusing import assert_error, ids_of_things, operations_on
from tests.shop import make_product
from tests.tracing import unfollowed
from tests.watching import transaction_of_another, wait_until_somebody_waits_for

pytestmark = unfollowed

KEYED = {
    "/api/v1/credits/transfers": lambda user: {"to_user_id": str(user.id), "amount": 1},
    "/api/v1/credits/grants": lambda user: {"user_id": str(user.id), "amount": 1, "memo": "m"},
    "/api/v1/credits/charges": lambda user: {"user_id": str(user.id), "amount": 1, "memo": "m"},
    "/api/v1/credits/transfers/batch": lambda user: {
        "transfers": [{"to_user_id": str(user.id), "amount": 1}]
    },
    "/api/v1/credits/holds": lambda user: {"user_id": str(user.id), "amount": 1},
    "/api/v1/orders": lambda user: {"items": [{"sku": make_product().sku, "quantity": 1}]},
}
# Of things that there are already.
KEYED_STEPS: dict[str, dict[str, Any]] = {
    "/api/v1/credits/transfers/{transfer_id}/reverse": {"reason": "r"},
    "/api/v1/credits/holds/{hold_id}/capture": {},
    "/api/v1/credits/holds/{hold_id}/release": {},
    "/api/v1/orders/{order_id}/pay": {},
    "/api/v1/orders/{order_id}/refund": {"reason": "r"},
}
# It asks what has become of a key.
KEY_STATUS = "/api/v1/idempotency"


def test_every_keyed_operation_is_tried(app: Flask) -> None:
    operations = operations_on(app, {})
    found = {path for _, path, view in operations if vars(view).get("keyed") == "required"}
    nameless = {re.sub("[0-9a-f-]{36}", "{}", path) for path in found}
    steps = {re.sub("{.*}", "{}", path) for path in KEYED_STEPS}
    assert nameless == {*KEYED, *steps}


def test_a_keyed_operation_wants_its_key(app: Flask, client: Client, admin: TestUser) -> None:
    there = ids_of_things(app, admin)
    calls = [("POST", path, {"json": body(admin)}) for path, body in KEYED.items()]
    calls += [("POST", path.format(**there), {"json": body}) for path, body in KEYED_STEPS.items()]
    for method, path, sent in [*calls, ("GET", KEY_STATUS, {})]:
        answer = client.request(method, path, token=admin.token, **sent)
        assert_error(answer, 400, "IDEMPOTENCY_KEY_REQUIRED")
        for malformed in ("", "a b", "ä", "x" * 256):
            answer = client.request(method, path, token=admin.token, key=malformed, **sent)
            assert_error(answer, 400, "BAD_REQUEST")


def test_a_key_is_good_for_one_request(
    client: Client, admin: TestUser, make_user: Callable[..., TestUser]
) -> None:
    sender, receiver = make_user(credits=10, roles=("finance",)), make_user()
    for path, body in KEYED.items():
        key, sent = new_key(), body(receiver)
        first = client.post(path, token=sender.token, key=key, json=sent)
        assert first.status_code == 201
        again = client.post(path, token=sender.token, key=key, json=sent)
        assert (again.status_code, again.data) == (201, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers.get("Location") == first.headers.get("Location")
        assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
        other = client.post(path, token=sender.token, key=key, json=body(admin))
        assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_twin_of_a_running_request_is_told_to_come_back(
    client: Client, make_user: Callable[..., TestUser], owner_engine: Engine
) -> None:
    sender, receiver = make_user(credits=10, roles=("finance",)), make_user()
    # An order waits for nobody's account.
    for path, body in KEYED.items():
        if path == "/api/v1/orders":
            continue
        key = new_key()

        def send(path: str = path, body: Any = body, key: str = key) -> TestResponse:
            return client.post(path, token=sender.token, key=key, json=body(receiver))

        with ThreadPoolExecutor(1) as pool:
            with transaction_of_another(owner_engine) as other:
                # Whoever wants to move the account's credits waits.
                lock = text("SELECT 1 FROM accounts WHERE id = :id FOR UPDATE")
                other.execute(lock, {"id": receiver.id})
                first = pool.submit(send)
                wait_until_somebody_waits_for(other)
                twin = send()
                assert_error(twin, 409, "IDEMPOTENCY_IN_PROGRESS")
                assert twin.headers["Retry-After"] == "1"
            assert first.result(10).status_code == 201
        assert send().headers["Idempotent-Replayed"] == "true"
