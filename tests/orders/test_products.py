"""Products: read by everybody and cached, made and changed by staff."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row

from app.platform.name_search import name_grams
from tests import people
from tests.client import Client, new_key
from tests.people import TestUser
from tests.shop import make_product

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
PRODUCTS = "/api/v1/products"
PUBLIC = "public, max-age=3600"
COUNT_EVENTS = "SELECT count(*) FROM audit_events WHERE subject_id = :id"
EVENTS = (
    "SELECT action, actor_id, subject_type, details FROM audit_events WHERE subject_id = :id"
    " ORDER BY created_at"
)


def listed(client: Client, **query: Any) -> list[str]:
    """Return the SKUs of a page, for everybody."""
    answer = client.get(PRODUCTS, query_string=query)
    assert answer.status_code == 200, answer.json
    return [product["sku"] for product in answer.json["items"]]


def body(**values: Any) -> dict[str, Any]:
    return {"sku": uuid4().hex, "name": "First course", "price": 999} | values


def test_staff_adds_a_product_that_everybody_sees(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    sent = body(sku="Course-1._" + uuid4().hex)
    made = client.post(PRODUCTS, token=admin.token, json=sent)
    assert (made.status_code, made.headers["ETag"]) == (201, '"1"')
    assert made.headers["Cache-Control"] == "no-store"
    product_id = made.json["id"]
    assert made.json == {**sent, "id": product_id, "active": True}
    assert made.headers["Location"] == f"{PRODUCTS}/{product_id}"
    seen = client.get(made.headers["Location"])
    assert (seen.status_code, seen.json) == (200, made.json)
    assert (seen.headers["Cache-Control"], seen.headers["ETag"]) == (PUBLIC, '"1"')
    assert [tuple(event) for event in sql(EVENTS, id=product_id)] == [
        (
            "orders.product.created",
            admin.id,
            "product",
            {"sku": sent["sku"], "price": 999, "active": True},
        )
    ]


def test_a_product_that_has_not_changed_is_not_sent_again(client: Client, admin: TestUser) -> None:
    url = f"{PRODUCTS}/{make_product().id}"
    for known in ('"1"', 'W/"1"', '"0", "1"', '"1:zstd"'):
        again = client.get(url, headers={"If-None-Match": known})
        assert (again.status_code, again.data) == (304, b"")
        assert (again.headers["ETag"], again.headers["Cache-Control"]) == ('"1"', PUBLIC)
    client.patch(url, token=admin.token, json={"price": 11})
    changed = client.get(url, headers={"If-None-Match": '"1"'})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')


def test_a_page_of_products_that_has_not_changed_is_not_sent_again(
    client: Client, admin: TestUser
) -> None:
    mark = uuid4().hex
    one, *_ = (make_product(name=f"{mark} {number}") for number in range(3))
    query = {"name": mark, "per_page": "2"}
    first = client.get(PRODUCTS, query_string=query)
    assert first.headers["Cache-Control"] == PUBLIC
    tag = first.headers["ETag"]
    again = client.get(PRODUCTS, query_string=query, headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")
    assert (again.headers["ETag"], again.headers["Cache-Control"]) == (tag, PUBLIC)
    client.patch(f"{PRODUCTS}/{one.id}", token=admin.token, json={"active": False})
    changed = client.get(PRODUCTS, query_string=query, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_everybody_gets_the_same_bytes_signed_in_or_not(
    client: Client, admin: TestUser, make_user: MakeUser
) -> None:
    mark = uuid4().hex
    for number in range(3):
        make_product(name=f"{mark} {number}")
    query = {"name": mark, "per_page": "2"}
    tokens = (None, admin.token, make_user().token, "nonsense")
    answers = [client.get(PRODUCTS, query_string=query, token=token) for token in tokens]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    query["cursor"] = answers[0].json["next_cursor"]
    assert client.get(PRODUCTS, query_string=query, token=admin.token).status_code == 200


def test_products_are_listed_by_sku_without_gap_or_repeat(client: Client) -> None:
    mark = uuid4().hex
    # In the order of their bytes, whatever the language of the machine.
    skus = [f"{mark}{end}" for end in ("-1", ".1", "1", "2", "B", "_", "a")]
    for sku in reversed(skus):
        make_product(sku=sku, name=f"{mark} product")
    query: dict[str, Any] = {"name": mark, "per_page": "3"}
    walked = []
    while True:
        answer = client.get(PRODUCTS, query_string=query)
        walked.append([product["sku"] for product in answer.json["items"]])
        if answer.json["next_cursor"] is None:
            break
        query["cursor"] = answer.json["next_cursor"]
    assert [len(page) for page in walked] == [3, 3, 1]
    assert [sku for page in walked for sku in page] == skus
    assert listed(client, name=mark, per_page="3", page="2") == walked[1]


def test_a_product_is_found_by_any_part_of_its_name_in_any_case(client: Client) -> None:
    mark = uuid4().hex
    sku = make_product(name=f"Größe {mark} Kleid").sku
    for part in (mark, mark.upper(), f"GRÖSSE {mark}"[2:], f"{mark} kl"):
        found = listed(client, name=part)
        assert found == ([sku] if "SSE" not in part else []), part
    assert listed(client, name=f"{mark} Größe") == []


def test_percent_underscore_and_backslash_stand_for_themselves(client: Client) -> None:
    mark = uuid4().hex
    skus = {part: make_product(name=f"{mark}{part}").sku for part in ("%", "_", "\\", "x")}
    for part in ("%", "_", "\\"):
        assert listed(client, name=f"{mark}{part}") == [skus[part]]
    assert len(listed(client, name=mark)) == 4


def test_a_product_is_found_by_its_new_name_and_no_more_by_its_old_one(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    old, new = uuid4().hex, uuid4().hex
    product = make_product(name=old)
    changed = client.patch(f"{PRODUCTS}/{product.id}", token=admin.token, json={"name": new})
    assert changed.status_code == 200
    assert (listed(client, name=new), listed(client, name=old)) == ([product.sku], [])
    ((grams,),) = sql("SELECT name_grams FROM products WHERE id = :id", id=product.id)
    assert sorted(grams) == name_grams(new)


def test_an_inactive_product_is_for_staff_and_for_who_has_its_id(
    client: Client, admin: TestUser
) -> None:
    mark = uuid4().hex
    active, inactive = make_product(name=mark), make_product(name=mark, active=False)
    assert listed(client, name=mark) == listed(client, name=mark, active="true") == [active.sku]
    url = f"{PRODUCTS}/{inactive.id}"
    assert (client.get(url).status_code, client.get(url).json["active"]) == (200, False)
    query = {"name": mark, "active": "false"}
    answer = client.get(PRODUCTS, query_string=query, token=admin.token)
    assert [product["sku"] for product in answer.json["items"]] == [inactive.sku]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers


@pytest.mark.parametrize("query", ["active=false", "active=true&active=false", "active=false&x=1"])
def test_the_list_of_inactive_products_needs_the_permission_before_anything_is_read(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql, query: str
) -> None:
    url = f"{PRODUCTS}?{query}"
    for token in (None, "nonsense"):
        answer = client.get(url, token=token)
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["Cache-Control"] == "no-store"
    for role in ("support", "finance", "service"):
        staff = make_user(roles=(role,))
        answer = client.get(url, token=staff.token)
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "FORBIDDEN")
        assert answer.headers["Cache-Control"] == "no-store"
        denied = sql(
            "SELECT details FROM audit_events"
            " WHERE actor_id = :id AND action = 'auth.access.denied'",
            id=staff.id,
        )
        assert [details for (details,) in denied] == [
            {"permission": "catalogue:write", "route": PRODUCTS}
        ]
    expected = 200 if query == "active=false" else 422
    assert client.get(url, token=admin.token).status_code == expected


def test_an_api_key_lists_inactive_products_with_the_scope_of_the_catalogue_alone(
    client: Client, admin: TestUser
) -> None:
    url = f"{PRODUCTS}?active=false"
    for scope, status in (("catalogue:write", 200), ("self:read", 403), ("users:read", 403)):
        key = people.make_api_key(admin, scope)
        assert client.get(url, token=key).status_code == status
        assert client.get(PRODUCTS, token=key).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        {"active": "no"},
        {"active": "False"},
        {"active": "0"},
        {"active": ""},
        {"name": ""},
        {"name": "x" * 101},
        {"per_page": "0"},
        {"cursor": "forged"},
        {"sku": "a"},
    ],
)
def test_a_filter_of_the_wrong_shape_is_named(client: Client, query: dict[str, str]) -> None:
    answer = client.get(PRODUCTS, query_string=query)
    assert answer.status_code == 422
    assert list(answer.json["error"]["details"]) == list(query)
    assert answer.headers["Cache-Control"] == "no-store"


def test_staff_changes_a_product_and_its_numbers_before_and_after_are_recorded(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    product = make_product(price=10)
    sku = uuid4().hex
    wanted = {"sku": sku, "name": "Other", "price": 0, "active": False}
    answer = client.patch(f"{PRODUCTS}/{product.id}", token=admin.token, json=wanted)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert answer.json == {**wanted, "id": str(product.id)}
    assert client.get(f"{PRODUCTS}/{product.id}").json == answer.json
    *_, event = sql(EVENTS, id=product.id)
    assert (event.action, event.actor_id) == ("orders.product.changed", admin.id)
    assert event.details == {
        "fields": ["active", "name", "price", "sku"],
        "before": {"sku": product.sku, "price": 10, "active": True},
        "after": {"sku": sku, "price": 0, "active": False},
    }


@pytest.mark.parametrize("sent", [{}, {"price": 10}, {"name": "Test Product", "active": True}])
def test_what_is_as_wanted_already_is_no_change(
    client: Client, admin: TestUser, sql: Sql, sent: dict[str, Any]
) -> None:
    product = make_product()
    answer = client.patch(f"{PRODUCTS}/{product.id}", token=admin.token, json=sent)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert sql(COUNT_EVENTS, id=product.id) == [(1,)]


def test_only_the_version_that_the_client_has_seen_is_changed(
    client: Client, admin: TestUser
) -> None:
    url = f"{PRODUCTS}/{make_product().id}"

    def change(price: int, seen: str) -> tuple[int, str | None]:
        answer = client.patch(
            url, token=admin.token, json={"price": price}, headers={"If-Match": seen}
        )
        return answer.status_code, answer.headers.get("ETag")

    assert change(1, '"1:gzip"') == (200, '"2"')
    stale = client.patch(url, token=admin.token, json={"price": 2}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json["error"]["code"]) == (412, "PRECONDITION_FAILED")
    assert client.get(url).json["price"] == 1
    assert change(3, "*") == (200, '"3"')


def test_a_sku_is_there_once_and_its_case_counts(client: Client, admin: TestUser) -> None:
    taken, other = make_product(sku=f"a{uuid4().hex}", active=False), make_product()
    for answer in (
        client.post(PRODUCTS, token=admin.token, json=body(sku=taken.sku)),
        client.patch(f"{PRODUCTS}/{other.id}", token=admin.token, json={"sku": taken.sku}),
    ):
        assert (answer.status_code, answer.json["error"]["code"]) == (409, "SKU_TAKEN")
    assert client.get(f"{PRODUCTS}/{other.id}").json["sku"] == other.sku
    upper = client.post(PRODUCTS, token=admin.token, json=body(sku=taken.sku.upper()))
    assert upper.status_code == 201


def test_a_repeat_gets_the_first_answer_and_makes_nothing(client: Client, admin: TestUser) -> None:
    key, sent = new_key(), body()
    first, again = (client.post(PRODUCTS, token=admin.token, key=key, json=sent) for _ in range(2))
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Location"] == first.headers["Location"]
    other = client.post(PRODUCTS, token=admin.token, key=key, json=sent | {"price": 1})
    assert (other.status_code, other.json["error"]["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sku": ""}, {"sku": "a" * 65}, {"sku": "a b"}, {"sku": "ä"}, {"sku": "a\n"}, {"sku": None},
        {"sku": 5}, {"name": ""}, {"name": "x" * 101}, {"name": "a\u0007"}, {"name": None},
        {"price": -1}, {"price": 10**12 + 1}, {"price": 1.0}, {"price": "1"}, {"price": True},
        {"price": None}, {"active": "true"}, {"active": 1}, {"active": None}, {"id": str(uuid4())},
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_shape_is_named(
    client: Client, admin: TestUser, wrong: dict[str, Any]
) -> None:
    product = make_product()
    for answer in (
        client.post(PRODUCTS, token=admin.token, json=body(**wrong)),
        client.patch(f"{PRODUCTS}/{product.id}", token=admin.token, json=wrong),
    ):
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "VALIDATION_ERROR")
        assert list(answer.json["error"]["details"]) == list(wrong)


def test_the_largest_values_fit(client: Client, admin: TestUser) -> None:
    largest = body(sku=uuid4().hex * 2, name="ẞ" * 100, price=10**12, active=False)
    answer = client.post(PRODUCTS, token=admin.token, json=largest)
    assert answer.status_code == 201
    assert answer.json == {**largest, "id": answer.json["id"]}


def test_a_product_wants_sku_name_and_price(client: Client, admin: TestUser) -> None:
    answer = client.post(PRODUCTS, token=admin.token, json={})
    assert answer.status_code == 422
    assert set(answer.json["error"]["details"]) == {"sku", "name", "price"}
