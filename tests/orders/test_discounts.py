"""Discounts: made, read and changed by staff alone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row

from tests.client import Client, new_key
from tests.people import TestUser
from tests.shop import make_discount

Sql = Callable[..., list[Row[Any]]]
DISCOUNTS = "/api/v1/discounts"
REDEEM = "UPDATE discounts SET redeemed = redeemed + :times WHERE id = :id"
EVENTS = (
    "SELECT action, actor_id, subject_type, details FROM audit_events WHERE subject_id = :id"
    " ORDER BY created_at"
)
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)


def written(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def path_of(discount_id: UUID) -> str:
    return f"{DISCOUNTS}/{discount_id}"


def test_staff_adds_a_discount_without_limits(client: Client, admin: TestUser, sql: Sql) -> None:
    code = f"Spring-{uuid4().hex}"
    made = client.post(DISCOUNTS, token=admin.token, json={"code": code, "percent": "12.5"})
    assert (made.status_code, made.headers["ETag"]) == (201, '"1"')
    discount_id = made.json["id"]
    assert made.json == {
        "id": discount_id,
        "code": code,
        "percent": "12.50",
        "max_redemptions": None,
        "redeemed": 0,
        "starts_at": None,
        "ends_at": None,
        "active": True,
    }
    assert made.headers["Location"] == path_of(discount_id)
    assert [tuple(event) for event in sql(EVENTS, id=discount_id)] == [
        (
            "orders.discount.created",
            admin.id,
            "discount",
            {key: value for key, value in made.json.items() if key != "id"},
        )
    ]


def test_staff_adds_a_discount_with_limits_and_reads_it_again(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    sent = {
        "code": uuid4().hex,
        "percent": "100",
        "max_redemptions": 5,
        "starts_at": "2026-03-01T01:00:00+01:00",
        "ends_at": written(END),
        "active": False,
    }
    made = client.post(DISCOUNTS, token=admin.token, json=sent)
    assert made.status_code == 201
    shown = {**sent, "percent": "100.00", "starts_at": written(START), "redeemed": 0}
    assert {**made.json, **shown} == made.json
    seen = client.get(made.headers["Location"], token=admin.token)
    assert (seen.status_code, seen.json, seen.headers["ETag"]) == (200, made.json, '"1"')
    assert seen.headers["Cache-Control"] == "no-store"
    ((event,),) = [sql(EVENTS, id=made.json["id"])]
    assert (event.details["starts_at"], event.details["ends_at"]) == (written(START), written(END))


def test_a_code_is_there_once_in_any_case(client: Client, admin: TestUser) -> None:
    taken, other = make_discount(code=f"Code-{uuid4().hex}", active=False), make_discount()
    for code in (taken.code, taken.code.upper(), taken.code.lower()):
        for answer in (
            client.post(DISCOUNTS, token=admin.token, json={"code": code, "percent": "1"}),
            client.patch(path_of(other.id), token=admin.token, json={"code": code}),
        ):
            assert (answer.status_code, answer.json["error"]["code"]) == (409, "CODE_TAKEN")
    respelled = {"code": taken.code.upper()}
    answer = client.patch(path_of(taken.id), token=admin.token, json=respelled)
    assert (answer.status_code, answer.json["code"]) == (200, taken.code.upper())


def test_staff_changes_a_discount_and_both_sides_are_recorded(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    discount = make_discount(starts_at=START)
    sent = {"percent": "33.33", "starts_at": None, "ends_at": written(END), "max_redemptions": 7}
    answer = client.patch(path_of(discount.id), token=admin.token, json=sent)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert {**answer.json, **sent} == answer.json
    *_, event = sql(EVENTS, id=discount.id)
    assert (event.action, event.actor_id) == ("orders.discount.changed", admin.id)
    assert event.details == {
        "fields": ["ends_at", "max_redemptions", "percent", "starts_at"],
        "before": {
            "percent": "10.00",
            "max_redemptions": None,
            "starts_at": written(START),
            "ends_at": None,
        },
        "after": sent,
    }


def test_what_is_as_wanted_already_is_no_change(client: Client, admin: TestUser, sql: Sql) -> None:
    discount = make_discount(starts_at=START)
    same = {"percent": "10.0", "starts_at": "2026-03-01T02:00:00+02:00", "code": discount.code}
    for sent in ({}, same):
        answer = client.patch(path_of(discount.id), token=admin.token, json=sent)
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert len(sql(EVENTS, id=discount.id)) == 1


def test_a_discount_ends_after_it_starts(client: Client, admin: TestUser) -> None:
    start, end = written(START), written(END)
    late = written(END + timedelta(microseconds=1))
    discount = make_discount(starts_at=START, ends_at=END)
    new = {"code": uuid4().hex, "percent": "1"}
    answers = [
        client.post(DISCOUNTS, token=admin.token, json=new | times)
        for times in ({"starts_at": end, "ends_at": end}, {"starts_at": end, "ends_at": start})
    ] + [
        client.patch(path_of(discount.id), token=admin.token, json=times)
        for times in ({"starts_at": end}, {"ends_at": start}, {"starts_at": late, "ends_at": end})
    ]
    for answer in answers:
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "VALIDATION_ERROR")
        assert answer.json["error"]["details"] == {"ends_at": ["Must be after starts_at."]}
    for times in ({"starts_at": end, "ends_at": late}, {"ends_at": None}, {"starts_at": late}):
        answer = client.patch(path_of(discount.id), token=admin.token, json=times)
        assert answer.status_code == 200


def test_a_maximum_is_never_below_what_was_redeemed(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    discount = make_discount(max_redemptions=5)
    sql(REDEEM, id=discount.id, times=3)

    def limit(maximum: int | None) -> Any:
        return client.patch(
            path_of(discount.id), token=admin.token, json={"max_redemptions": maximum}
        )

    refused = limit(2)
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "INVALID_STATE")
    assert refused.json["error"]["details"] == {"redeemed": 3}
    for maximum in (3, None, 4):
        assert limit(maximum).json["max_redemptions"] == maximum
    shown = client.get(path_of(discount.id), token=admin.token)
    assert (shown.json["redeemed"], shown.json["max_redemptions"]) == (3, 4)


def test_only_the_version_that_the_client_has_seen_is_changed_however_often_it_is_redeemed(
    client: Client, admin: TestUser, sql: Sql
) -> None:
    discount = make_discount()
    tag = client.get(path_of(discount.id), token=admin.token).headers["ETag"]
    sql(REDEEM, id=discount.id, times=1)
    # It has another number to show, so it is never said to be unchanged.
    seen = client.get(path_of(discount.id), token=admin.token, headers={"If-None-Match": tag})
    assert (seen.status_code, seen.json["redeemed"], seen.headers["ETag"]) == (200, 1, tag)

    def change(percent: str) -> tuple[int, str | None]:
        answer = client.patch(
            path_of(discount.id),
            token=admin.token,
            json={"percent": percent},
            headers={"If-Match": tag},
        )
        return answer.status_code, answer.json.get("percent")

    assert change("20") == (200, "20.00")
    assert change("30") == (412, None)
    shown = client.get(path_of(discount.id), token=admin.token)
    assert (shown.json["percent"], shown.json["redeemed"]) == ("20.00", 1)


def test_discounts_are_listed_by_code_in_any_case(client: Client, admin: TestUser) -> None:
    codes = [f"0{end}-{uuid4().hex}" for end in ("a", "B", "c", "D")]
    for code in reversed(codes):
        make_discount(code=code)
    query: dict[str, Any] = {"per_page": "3"}
    walked = []
    while True:
        answer = client.get(DISCOUNTS, token=admin.token, query_string=query)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
        walked += answer.json["items"]
        if answer.json["next_cursor"] is None:
            break
        query["cursor"] = answer.json["next_cursor"]
    found = [discount["code"] for discount in walked]
    assert found == sorted(set(found), key=str.casefold)
    assert [code for code in found if code in codes] == codes
    for discount in walked:
        assert client.get(path_of(discount["id"]), token=admin.token).json == discount


def test_a_repeat_gets_the_first_answer_and_makes_nothing(client: Client, admin: TestUser) -> None:
    sent, key = {"code": uuid4().hex, "percent": "5"}, new_key()
    first, again = (client.post(DISCOUNTS, token=admin.token, key=key, json=sent) for _ in range(2))
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": ""}, {"code": "a" * 65}, {"code": "a b"}, {"code": None}, {"code": "ß"},
        {"percent": "0"}, {"percent": "100.01"}, {"percent": "-1"}, {"percent": "101"},
        {"percent": 10}, {"percent": 0.5}, {"percent": "NaN"}, {"percent": "1.234"},
        {"percent": ""}, {"percent": None}, {"percent": True}, {"percent": "1\n"},
        {"max_redemptions": 0}, {"max_redemptions": -1}, {"max_redemptions": 1.0},
        {"max_redemptions": 2**53}, {"max_redemptions": "1"}, {"redeemed": 0},
        {"starts_at": "soon"}, {"starts_at": "2026-03-01T00:00:00"}, {"ends_at": 1},
        {"ends_at": "9999-12-31T23:59:59-01:00"}, {"starts_at": "0001-01-01T00:00:00+01:00"},
        {"active": None}, {"active": "yes"},
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_shape_is_named(
    client: Client, admin: TestUser, wrong: dict[str, Any]
) -> None:
    discount = make_discount()
    new = {"code": uuid4().hex, "percent": "1"}
    for answer in (
        client.post(DISCOUNTS, token=admin.token, json=new | wrong),
        client.patch(path_of(discount.id), token=admin.token, json=wrong),
    ):
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "VALIDATION_ERROR")
        assert list(answer.json["error"]["details"]) == list(wrong)


def test_a_discount_wants_code_and_percent(client: Client, admin: TestUser) -> None:
    answer = client.post(DISCOUNTS, token=admin.token, json={})
    assert answer.status_code == 422
    assert set(answer.json["error"]["details"]) == {"code", "percent"}
