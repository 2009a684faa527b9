"""API keys as their owner sees them: made, listed, rotated and deleted."""

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row

from app.auth.values import API_KEYS_MOST
from app.platform import clock
from tests import people
from tests.auth.refreshing import outcome
from tests.client import Client, new_key
from tests.limiting import later
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
API_KEYS = "/api/v1/api-keys"
ME = "/api/v1/users/me"
DAY = 86_400


def make(client: Client, owner: TestUser, *scopes: str, **more: Any) -> Any:
    """Ask for a key."""
    body = {"name": "Billing server", "scopes": list(scopes or ("self:read",))} | more
    return client.post(API_KEYS, json=body, token=owner.token)


def made(client: Client, owner: TestUser, *scopes: str, **more: Any) -> dict[str, Any]:
    """Return a new key as it was answered."""
    answer = make(client, owner, *scopes, **more)
    assert answer.status_code == 201, answer.json
    body: dict[str, Any] = answer.json
    return body


def listed(client: Client, owner: TestUser, **query: Any) -> Any:
    answer = client.get(API_KEYS, token=owner.token, query_string=query)
    assert answer.status_code == 200, answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json


def rotate(client: Client, owner: TestUser, key: dict[str, Any], **body: Any) -> Any:
    return client.post(f"{API_KEYS}/{key['id']}/rotate", json=body, token=owner.token)


def works(client: Client, key: dict[str, Any]) -> bool:
    status = client.get(ME, token=key["key"]).status_code
    assert status in (200, 401)
    return status == 200


def events(sql: Sql, owner: TestUser) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return what is recorded of the owner's keys: verb, details and personal part."""
    rows = sql(
        "SELECT e.action, e.details, convert_from(p.data, 'UTF8')::jsonb AS data, e.actor_id"
        " FROM audit_events e JOIN audit_personal p ON p.event_id = e.id"
        " WHERE e.subject_id = :id AND e.action LIKE 'auth.api_key.%' ORDER BY e.created_at, e.id",
        id=owner.id,
    )
    assert {row.actor_id for row in rows} <= {owner.id}
    return [(row.action.rpartition(".")[2], row.details, row.data) for row in rows]


def test_a_key_is_shown_once_and_only_a_digest_of_it_is_stored(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner = make_user(roles=("service",))
    scopes = ["self:write", "credits:charge", "self:write", "self:read"]
    answer = client.post(
        API_KEYS,
        json={"name": "Billing server", "scopes": scopes},
        token=owner.token,
        headers={"Accept-Encoding": "gzip"},
    )
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Content-Encoding" not in answer.headers
    body = dict(answer.json)
    text = body.pop("key")
    assert re.fullmatch(r"bk_[0-9a-f]{32}_[A-Za-z0-9_-]{43}", text)
    _, key_id, secret = text.split("_", 2)
    assert UUID(key_id) == UUID(body["id"])
    assert listed(client, owner) == {"items": [body], "next_cursor": None}
    assert body.pop("created_at").endswith("Z")
    assert body == {
        "id": body["id"],
        "name": "Billing server",
        "scopes": ["credits:charge", "self:read", "self:write"],
        "expires_at": None,
        "last_used_at": None,
        "previous_until": None,
    }
    ((row,),) = sql("SELECT api_keys::text FROM api_keys WHERE id = :id", id=body["id"])
    assert hashlib.sha256(secret.encode()).hexdigest() in row
    assert secret not in row


def test_a_key_is_recorded_by_its_id_and_its_name_apart(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner = make_user()
    key = made(client, owner, name="Ada's laptop")
    assert rotate(client, owner, key).status_code == 201
    assert client.delete(f"{API_KEYS}/{key['id']}", token=owner.token).status_code == 204
    found = events(sql, owner)
    about = {"api_key_id": key["id"]}
    assert [(verb, details) for verb, details, _ in found] == [
        ("created", about | {"scopes": ["self:read"]}),
        ("rotated", about | {"overlap_seconds": DAY}),
        ("deleted", about),
    ]
    assert {personal["name"] for _, _, personal in found} == {"Ada's laptop"}
    log = client.get(f"{ME}/security-log", token=owner.token).json["items"]
    assert [(entry["action"], entry["by"]) for entry in log[:3]] == [
        (f"auth.api_key.{verb}", "you") for verb in ("deleted", "rotated", "created")
    ]


def test_the_list_is_walked_page_by_page_and_holds_nobody_elses(
    client: Client, make_user: MakeUser
) -> None:
    owner, other = make_user(), make_user()
    newest_first = [made(client, owner)["id"] for _ in range(5)][::-1]
    made(client, other)
    found: list[str] = []
    query: dict[str, Any] = {"per_page": 2}
    while True:
        page = listed(client, owner, **query)
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == newest_first
    second = listed(client, owner, per_page=2, page=2)
    assert [item["id"] for item in second["items"]] == newest_first[2:4]
    lent = client.get(API_KEYS, token=other.token, query_string=query)
    assert outcome(lent) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": None}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": None}, "scopes"),
        ({"scopes": "self:read"}, "scopes"),
        ({"scopes": ["self:read"] * 17}, "scopes"),
        ({"scopes": ["self:read", "users:eat"]}, "scopes.1"),
        ({"scopes": ["self:*"]}, "scopes.0"),
        ({"expires_at": "2026-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": 5}, "expires_at"),
        ({"user_id": str(uuid4())}, "user_id"),
    ],
)
def test_a_key_that_breaks_the_contract_is_not_made(
    client: Client, make_user: MakeUser, more: dict[str, Any], field: str
) -> None:
    owner = make_user()
    answer = make(client, owner, **more)
    assert outcome(answer) == (422, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {field}
    assert listed(client, owner)["items"] == []


def test_nobody_gives_a_key_what_they_lack_and_the_attempt_is_recorded(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner = make_user(roles=("service",))
    answer = make(client, owner, "self:read", "credits:charge", "credits:grant")
    assert outcome(answer) == (403, "FORBIDDEN")
    assert "credits:grant" in answer.json["error"]["message"]
    assert listed(client, owner)["items"] == []
    (event,) = sql(
        "SELECT details FROM audit_events WHERE actor_id = :id AND action = 'auth.access.denied'",
        id=owner.id,
    )
    assert event.details == {"permission": "credits:grant", "route": API_KEYS}
    # What is said of the body comes first: a name that nobody has is nobody's permission.
    assert outcome(make(client, owner, "credits:grant", "users:eat"))[0] == 422


def test_nobody_has_more_than_50_good_keys(client: Client, make_user: MakeUser, sql: Sql) -> None:
    owner = make_user()
    first = made(client, owner)
    soon = (clock.now() + timedelta(hours=1)).isoformat()
    made(client, owner, expires_at=soon)
    for _ in range(API_KEYS_MOST - 2):
        people.make_api_key(owner, "self:read")
    assert outcome(make(client, owner)) == (409, "CONFLICT")
    assert client.delete(f"{API_KEYS}/{first['id']}", token=owner.token).status_code == 204
    made(client, owner)
    assert outcome(make(client, owner)) == (409, "CONFLICT")
    # One that has expired counts no more, and is still seen.
    sql(
        "UPDATE api_keys SET expires_at = created_at"
        " WHERE user_id = :id AND expires_at IS NOT NULL",
        id=owner.id,
    )
    made(client, owner)
    assert len(listed(client, owner, per_page=100)["items"]) == API_KEYS_MOST + 1
    assert make(client, make_user()).status_code == 201


def test_a_deleted_key_is_refused_on_its_next_request(client: Client, make_user: MakeUser) -> None:
    owner = make_user()
    lost, kept = made(client, owner), made(client, owner)
    assert works(client, lost)
    url = f"{API_KEYS}/{lost['id']}"
    answer = client.delete(url, token=owner.token)
    assert (answer.status_code, answer.data) == (204, b"")
    assert (works(client, lost), works(client, kept)) == (False, True)
    assert [item["id"] for item in listed(client, owner)["items"]] == [kept["id"]]
    assert outcome(client.delete(url, token=owner.token)) == (404, "NOT_FOUND")
    assert outcome(rotate(client, owner, lost)) == (404, "NOT_FOUND")


def test_an_idempotency_key_makes_deleting_repeatable(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner, key = make_user(), new_key()
    url = f"{API_KEYS}/{made(client, owner)['id']}"
    first = client.delete(url, token=owner.token, key=key)
    again = client.delete(url, token=owner.token, key=key)
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [verb for verb, _, _ in events(sql, owner)] == ["created", "deleted"]


def test_an_answer_with_a_key_is_never_kept_for_a_repeat(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner, key = make_user(), new_key()
    body = {"name": "A", "scopes": ["self:read"]}
    answers = [client.post(API_KEYS, json=body, token=owner.token, key=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json["key"] != answers[1].json["key"]
    assert sql("SELECT 1 FROM idempotency_keys WHERE user_id = :id", id=owner.id) == []


def test_another_users_key_answers_like_one_that_does_not_exist(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    owner = make_user()
    key = made(client, owner)
    for stranger in (make_user(), admin):
        for key_id in (key["id"], uuid4()):
            url = f"{API_KEYS}/{key_id}"
            for sent in ({}, {"data": b"{", "content_type": "application/json"}):
                for answer in (
                    client.delete(url, token=stranger.token, **sent),
                    client.post(f"{url}/rotate", token=stranger.token, **sent),
                ):
                    assert outcome(answer) == (404, "NOT_FOUND")
    assert works(client, key)


def test_after_a_rotation_both_texts_are_good_until_the_overlap_is_over(
    client: Client, make_user: MakeUser
) -> None:
    owner = make_user()
    with later(0):
        old = made(client, owner)
        answer = rotate(client, owner, old, overlap_seconds=3600)
        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        new = answer.json
        assert new["id"] == old["id"]
        assert new["key"] != old["key"]
        until = (clock.now() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
        assert new["previous_until"] == until
        assert {**old, "key": new["key"], "previous_until": until} == new
        assert works(client, old)
        assert works(client, new)
    with later(3599):
        assert works(client, old)
    with later(3601):
        assert not works(client, old)
        assert works(client, new)


def test_the_overlap_is_a_day_if_nothing_else_is_said_and_may_be_none(
    client: Client, make_user: MakeUser
) -> None:
    owner = make_user()
    with later(0):
        first = made(client, owner)
        second = rotate(client, owner, first).json
        assert works(client, first)
        with later(DAY - 1):
            assert works(client, first)
        with later(DAY + 1):
            assert not works(client, first)
        third = rotate(client, owner, second, overlap_seconds=0).json
        assert third["previous_until"] is None
        assert [works(client, key) for key in (first, second, third)] == [False, False, True]
        (item,) = listed(client, owner)["items"]
        assert item["previous_until"] is None


def test_a_second_rotation_ends_the_oldest_text(client: Client, make_user: MakeUser) -> None:
    owner = make_user()
    first = made(client, owner)
    second = rotate(client, owner, first).json
    third = rotate(client, owner, second).json
    assert [works(client, key) for key in (first, second, third)] == [False, True, True]


@pytest.mark.parametrize("seconds", [-1, 604_801, 1.0, "60", True, None])
def test_an_overlap_outside_of_a_week_is_refused(
    client: Client, make_user: MakeUser, seconds: Any
) -> None:
    owner = make_user()
    key = made(client, owner)
    answer = rotate(client, owner, key, overlap_seconds=seconds)
    assert outcome(answer) == (422, "VALIDATION_ERROR")
    assert list(answer.json["error"]["details"]) == ["overlap_seconds"]
    assert rotate(client, owner, key, overlap_seconds=604_800).status_code == 201


def test_an_expired_key_is_refused_seen_and_not_rotated(
    client: Client, make_user: MakeUser
) -> None:
    owner = make_user()
    with later(0):
        ends = clock.now() + timedelta(minutes=5)
        key = made(client, owner, expires_at=ends.astimezone().isoformat())
        assert key["expires_at"] == ends.isoformat().replace("+00:00", "Z")
        rotated = rotate(client, owner, key).json
        assert works(client, key)
        with later(299):
            assert works(client, rotated)
        with later(300):
            assert not works(client, key)
            assert not works(client, rotated)
            (item,) = listed(client, owner)["items"]
            assert item["id"] == key["id"]
            assert outcome(rotate(client, owner, key)) == (409, "INVALID_STATE")
