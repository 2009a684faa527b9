"""Looking at one user and at many."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row

from tests.client import Client
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
USERS = "/api/v1/users"


@pytest.fixture
def staff(make_user: MakeUser) -> TestUser:
    return make_user(roles=("support",))


def signed_up(client: Client, name: str) -> str:
    answer = client.post(
        USERS,
        json={"email": f"{uuid4().hex}@example.com", "name": name, "password": "difference 1822"},
    )
    assert answer.status_code == 201
    user_id: str = answer.json["id"]
    return user_id


def found(client: Client, staff: TestUser, **query: str) -> list[str]:
    answer = client.get(USERS, token=staff.token, query_string=query)
    assert answer.status_code == 200, answer.json
    return [user["id"] for user in answer.json["items"]]


def test_users_see_themselves(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    me = client.get(f"{USERS}/me", token=user.token)
    assert me.status_code == 200
    assert me.json["id"] == str(user.id)
    assert me.headers["Cache-Control"] == "no-store"
    by_id = client.get(f"{USERS}/{user.id}", token=user.token)
    assert (by_id.status_code, by_id.json) == (200, me.json)


@pytest.mark.parametrize("place", ["me", "{id}"])
def test_a_user_that_has_not_changed_is_not_sent_again(
    client: Client, make_user: MakeUser, sql: Sql, place: str
) -> None:
    user = make_user()
    url = f"{USERS}/{place.format(id=user.id)}"
    tag = client.get(url, token=user.token).headers["ETag"]
    assert tag == '"1"'
    for known in (tag, f"W/{tag}", '"0", "1"', '"1:zstd"'):
        again = client.get(url, token=user.token, headers={"If-None-Match": known})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    sql("UPDATE users SET version = 2 WHERE id = :id", id=user.id)
    changed = client.get(url, token=user.token, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')


def test_a_stranger_is_as_absent_as_nobody(client: Client, make_user: MakeUser) -> None:
    user, stranger = make_user(), make_user()
    answers = [
        client.get(f"{USERS}/{user_id}", token=user.token, headers={"X-Request-Id": "same"})
        for user_id in (stranger.id, uuid4())
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].data == answers[1].data


def test_staff_see_everybody(client: Client, make_user: MakeUser, staff: TestUser) -> None:
    user = make_user()
    answer = client.get(f"{USERS}/{user.id}", token=staff.token)
    assert (answer.status_code, answer.json["id"]) == (200, str(user.id))
    assert client.get(f"{USERS}/{uuid4()}", token=staff.token).status_code == 404


@pytest.mark.parametrize("role", ["support", "finance", "service", "admin"])
def test_every_staff_role_may_list_users(client: Client, make_user: MakeUser, role: str) -> None:
    user = make_user(roles=(role,))
    answer = client.get(USERS, token=user.token)
    assert answer.status_code == 200
    me = client.get(f"{USERS}/me", token=user.token)
    assert me.json["roles"] == ["user", role]


def test_a_user_without_a_role_may_not_list_users_and_the_attempt_is_recorded(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    answer = client.get(f"{USERS}?unknown=1", token=user.token)
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "FORBIDDEN")
    ((event,),) = sql(
        "SELECT to_jsonb(audit_events) FROM audit_events"
        " WHERE actor_id = :id AND action = 'auth.access.denied'",
        id=user.id,
    )
    assert event["details"] == {"permission": "users:read", "route": "/api/v1/users"}


def test_a_name_is_found_by_any_part_in_any_case(client: Client, staff: TestUser) -> None:
    mark = uuid4().hex
    user_id = signed_up(client, f"Zoë {mark} Straße")
    for part in (f"Zoë {mark}", f"ZOË {mark}", mark.upper(), mark[:2] + mark[2:], f"{mark} stra"):
        assert found(client, staff, name=part) == [user_id]
    assert found(client, staff, name=f"{mark} Zoë") == []


def test_percent_underscore_and_backslash_stand_for_themselves(
    client: Client, staff: TestUser
) -> None:
    mark = uuid4().hex
    users = {part: signed_up(client, f"{mark}{part}") for part in ("%", "_", "\\", "x")}
    for part in ("%", "_", "\\"):
        assert found(client, staff, name=f"{mark}{part}") == [users[part]]
    assert len(found(client, staff, name=mark)) == 4


def test_short_parts_of_names_are_found(client: Client, staff: TestUser) -> None:
    user_id = signed_up(client, "Ӝ")
    assert user_id in found(client, staff, name="Ӝ")
    assert user_id in found(client, staff, name="ӝ")


def test_an_address_is_found_in_any_spelling(
    client: Client, make_user: MakeUser, staff: TestUser
) -> None:
    user = make_user()
    assert found(client, staff, email=user.email.upper()) == [str(user.id)]
    assert found(client, staff, email=f"{uuid4()}@example.com") == []


def test_users_are_found_by_role_and_status(
    client: Client, make_user: MakeUser, staff: TestUser, sql: Sql
) -> None:
    finance, plain = make_user(roles=("finance",)), make_user()
    both = f"{finance.id},{plain.id}"
    assert found(client, staff, ids=both, role="finance") == [str(finance.id)]
    assert set(found(client, staff, ids=both, role="user")) == {str(finance.id), str(plain.id)}
    sql("UPDATE users SET status = 'suspended' WHERE id = :id", id=plain.id)
    assert found(client, staff, ids=both, status="suspended") == [str(plain.id)]
    assert found(client, staff, ids=both, status="active") == [str(finance.id)]
    assert found(client, staff, ids=both, status="erased") == []


def test_users_are_found_by_ids_in_one_query(
    client: Client, make_user: MakeUser, staff: TestUser
) -> None:
    users = [make_user() for _ in range(3)]
    ids = [str(user.id) for user in users]
    assert found(client, staff, ids=",".join([*ids, str(uuid4())])) == ids[::-1]
    assert found(client, staff, ids=",".join([ids[0]] * 100)) == [ids[0]]


def test_users_are_found_by_the_time_they_signed_up(
    client: Client, make_user: MakeUser, staff: TestUser
) -> None:
    user = make_user()
    created = datetime.fromisoformat(client.get(f"{USERS}/me", token=user.token).json["created_at"])

    def since(moment: datetime) -> list[str]:
        text = moment.isoformat().replace("+00:00", "Z")
        return found(client, staff, ids=str(user.id), created_after=text)

    assert since(created - timedelta(microseconds=1)) == [str(user.id)]
    assert since(created) == []


@pytest.mark.parametrize(
    "query",
    [
        {"role": "root"},
        {"status": "gone"},
        {"ids": "1"},
        {"ids": ""},
        {"ids": ",".join([str(uuid4())] * 101)},
        {"email": "ada"},
        {"name": ""},
        {"name": "x" * 101},
        {"created_after": "yesterday"},
        {"created_after": "2026-11-21T00:00:00"},
        {"per_page": "0"},
        {"cursor": "forged"},
    ],
)
def test_a_filter_of_the_wrong_shape_is_named(
    client: Client, staff: TestUser, query: dict[str, str]
) -> None:
    answer = client.get(USERS, token=staff.token, query_string=query)
    assert answer.status_code == 422
    assert list(answer.json["error"]["details"]) == list(query)


def test_pages_walk_from_the_newest_to_the_oldest_without_gap_or_repeat(
    client: Client, staff: TestUser
) -> None:
    mark = uuid4().hex
    users = [signed_up(client, f"{mark} {number}") for number in range(7)]
    query = {"name": mark, "per_page": "3"}
    walked: list[list[str]] = []
    while True:
        answer = client.get(USERS, token=staff.token, query_string=query)
        walked.append([user["id"] for user in answer.json["items"]])
        if answer.json["next_cursor"] is None:
            break
        query["cursor"] = answer.json["next_cursor"]
    assert [len(page) for page in walked] == [3, 3, 1]
    assert [user_id for page in walked for user_id in page] == users[::-1]
    second = client.get(
        USERS, token=staff.token, query_string={"name": mark, "per_page": "3", "page": "2"}
    )
    assert [user["id"] for user in second.json["items"]] == walked[1]
