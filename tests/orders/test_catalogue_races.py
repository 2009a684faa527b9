"""Several of the staff at once: one wins, and nothing is overwritten unseen."""

from collections import Counter
from uuid import uuid4

import pytest
from flask import Flask

from tests.client import Client
from tests.people import TestUser
from tests.racing import ROUNDS, at_once
from tests.shop import make_discount, make_product
from tests.tracing import unfollowed

pytestmark = unfollowed

STAFF = 8
API = "/api/v1"


@pytest.mark.parametrize("kind", ["products", "discounts"])
def test_of_many_changes_of_one_version_one_wins(app: Flask, admin: TestUser, kind: str) -> None:
    for _ in range(ROUNDS):
        made = make_product() if kind == "products" else make_discount()
        url = f"{API}/{kind}/{made.id}"

        def change(number: int, url: str = url) -> tuple[int, str | None]:
            wanted = {"price": number} if kind == "products" else {"percent": f"50.{number}0"}
            answer = Client(app).patch(
                url, token=admin.token, json=wanted, headers={"If-Match": '"1"'}
            )
            return answer.status_code, answer.headers.get("ETag")

        found = Counter(at_once(change, STAFF))
        assert found == {(200, '"2"'): 1, (412, None): STAFF - 1}


def test_of_many_changes_without_a_version_each_is_one_version(app: Flask, admin: TestUser) -> None:
    for _ in range(ROUNDS):
        url = f"{API}/products/{make_product(price=1000).id}"

        def change(number: int, url: str = url) -> str:
            return Client(app).patch(url, token=admin.token, json={"price": number}).headers["ETag"]

        assert sorted(at_once(change, STAFF)) == [f'"{version}"' for version in range(2, 10)]


@pytest.mark.parametrize(
    ("path", "field", "rest"),
    [
        ("products", "sku", {"name": "New", "price": 1}),
        ("discounts", "code", {"percent": "1"}),
    ],
)
def test_of_many_with_one_key_one_is_made(
    app: Flask, admin: TestUser, path: str, field: str, rest: dict[str, object]
) -> None:
    for _ in range(ROUNDS):
        key = uuid4().hex

        def add(_number: int, key: str = key) -> int:
            sent = {field: key, **rest}
            return Client(app).post(f"{API}/{path}", token=admin.token, json=sent).status_code

        assert Counter(at_once(add, STAFF)) == {201: 1, 409: STAFF - 1}
