"""Signing up."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row

from tests.client import Client

Sql = Callable[..., list[Row[Any]]]
USERS = "/api/v1/users"
FROM_HERE = {"REMOTE_ADDR": "203.0.113.7"}


def somebody(**fields: Any) -> dict[str, Any]:
    return {
        "email": f"Ada.{uuid4().hex}@Example.com",
        "name": "Ada Lovelace",
        "password": "analytical engine 1843",
    } | fields


def test_a_new_user_is_answered_with_its_place_and_version(client: Client, sql: Sql) -> None:
    body = somebody()
    answer = client.post(USERS, json=body)
    assert answer.status_code == 201
    user = answer.json
    assert answer.headers["Location"] == f"{USERS}/{user['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert user == {
        "id": user["id"],
        "email": body["email"],
        "email_verified": False,
        "name": "Ada Lovelace",
        "roles": ["user"],
        "status": "active",
        "created_at": user["created_at"],
        "updated_at": user["created_at"],
    }
    ((stored,),) = sql("SELECT to_jsonb(users) FROM users WHERE id = :id", id=user["id"])
    assert stored["email_key"] == body["email"].lower()
    assert stored["password_hash"].startswith("$argon2id$")
    assert stored["roles"] == []


def test_signing_up_is_audited_and_personal_values_stand_apart(client: Client, sql: Sql) -> None:
    body = somebody()
    answer = client.post(
        USERS, json=body, environ_base=FROM_HERE, headers={"X-Request-Id": "sign-up-1"}
    )
    user_id = answer.json["id"]
    ((event,),) = sql(
        "SELECT to_jsonb(audit_events) FROM audit_events WHERE subject_id = :id", id=user_id
    )
    assert event["action"] == "users.user.created"
    assert (event["actor_kind"], event["actor_id"]) == ("user", user_id)
    assert (event["subject_type"], event["request_id"]) == ("user", "sign-up-1")
    assert body["email"] not in str(event)
    assert "203.0.113.7" not in str(event)
    ((personal,),) = sql(
        "SELECT convert_from(data, 'UTF8')::jsonb FROM audit_personal WHERE subject_id = :id",
        id=user_id,
    )
    assert personal == {"email": body["email"], "name": body["name"], "address": "203.0.113.7"}


def test_an_address_is_taken_in_every_spelling(client: Client, sql: Sql) -> None:
    body = somebody()
    assert client.post(USERS, json=body).status_code == 201
    for spelling in (body["email"], body["email"].upper(), body["email"].lower()):
        answer = client.post(USERS, json=body | {"email": spelling})
        assert answer.status_code == 409
        assert answer.json["error"]["code"] == "EMAIL_TAKEN"
    found = sql("SELECT 1 FROM users WHERE email_key = :key", key=body["email"].lower())
    assert len(found) == 1


def test_of_many_who_take_one_address_together_one_gets_it(client: Client, sql: Sql) -> None:
    body = somebody()
    together = Barrier(16)

    def sign_up(_number: int) -> tuple[int, str]:
        together.wait()
        answer = client.post(USERS, json=body)
        return answer.status_code, answer.json.get("error", {}).get("code", "")

    with ThreadPoolExecutor(16) as threads:
        answers = Counter(threads.map(sign_up, range(16)))
    assert answers == {(201, ""): 1, (409, "EMAIL_TAKEN"): 15}
    ((user_id,),) = sql("SELECT id FROM users WHERE email_key = :key", key=body["email"].lower())
    assert len(sql("SELECT 1 FROM audit_events WHERE subject_id = :id", id=user_id)) == 1


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("Ada", "password123"),
        ("Ada", "PASSWORD123"),
        ("Ada", "\uff50assword123"),
        ("Charles Babbage", "charlesbabbage"),
    ],
)
def test_a_password_that_anyone_would_guess_is_refused(
    client: Client, sql: Sql, name: str, password: str
) -> None:
    body = somebody(name=name, password=password)
    answer = client.post(USERS, json=body)
    assert answer.status_code == 422
    assert answer.json["error"]["code"] == "WEAK_PASSWORD"
    assert not sql("SELECT 1 FROM users WHERE email = :email", email=body["email"])


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "ada"},
        {"email": 1},
        {"email": None},
        {"email": "a" * 250 + "@example.com"},
        {"name": ""},
        {"name": "x" * 101},
        {"name": ["Ada"]},
        {"name": "Ada\u0007"},
        {"password": "short-7"},
        {"password": "x" * 129},
        {"password": "\u0301" * 100_000},
        {"password": 12345678},
        {"roles": ["admin"]},
        {"id": str(uuid4())},
    ],
)
def test_a_field_of_the_wrong_shape_is_named(client: Client, fields: dict[str, Any]) -> None:
    answer = client.post(USERS, json=somebody(**fields))
    assert answer.status_code == 422
    assert list(answer.json["error"]["details"]) == list(fields)


def test_every_missing_field_is_named(client: Client) -> None:
    answer = client.post(USERS, json={})
    assert answer.status_code == 422
    assert set(answer.json["error"]["details"]) == {"email", "name", "password"}


def test_the_length_of_a_password_counts_after_normalising(client: Client) -> None:
    # 12 characters that compose to 8, and 7 that stay 7.
    long_enough = somebody(password="te\u0301te\u0301kri\u0301u\u0301")
    assert client.post(USERS, json=long_enough).status_code == 201
    too_short = somebody(password="t\u00e9t\u00e9kr\u00ed")
    assert client.post(USERS, json=too_short).status_code == 422
