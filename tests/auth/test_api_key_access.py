"""What an API key opens: what its scopes say, as long as its owner may do that, and never more."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Row

from app.auth import suspension
from app.platform import clock, guards
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.openapi import operations, path_of
from app.platform.settings import Settings
from app.users import administration
from tests import people
from tests.auth.refreshing import outcome
from tests.client import Client, new_key
from tests.limiting import SwitchOn, assert_limited, later, switching
from tests.people import SET_STATUS, TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
ME = "/api/v1/users/me"
BALANCE = "/api/v1/credits/balance"
TRANSFERS = "/api/v1/credits/transfers"
USERS = "/api/v1/users"


def give_roles(user: TestUser, *roles: str) -> None:
    with transaction() as session:
        administration.change_roles(session, actor=Actor(kind="cli"), user_id=user.id, roles=roles)


def suspend(user: TestUser, **until: Any) -> None:
    with transaction() as session:
        suspension.suspend(
            session, actor=Actor(kind="cli"), user_id=user.id, reason="For a test",
            **{"until": None, **until},
        )  # fmt: skip


def last_used(sql: Sql, key: str) -> Any:
    ((found,),) = sql("SELECT last_used_at FROM api_keys WHERE id = :id", id=people.id_of_key(key))
    return found


@pytest.fixture
def limited(settings: Settings, app: Flask) -> Iterator[SwitchOn]:
    with switching(settings) as switch_on:
        yield switch_on


def test_a_key_acts_for_its_owner(client: Client, make_user: MakeUser, sql: Sql) -> None:
    owner, other = make_user(credits=10), make_user()
    key = people.make_api_key(owner, "self:read", "self:write")
    answer = client.get(ME, token=key)
    assert (answer.status_code, answer.json["id"]) == (200, str(owner.id))
    assert answer.json == client.get(ME, token=owner.token).json
    body = {"to_user_id": str(other.id), "amount": 4}
    idempotency_key = new_key()
    sent = client.post(TRANSFERS, json=body, token=key, key=idempotency_key)
    assert (sent.status_code, sent.json["from_user_id"]) == (201, str(owner.id))
    # Idempotency keys belong to the user, whatever login session or API key.
    again = client.post(TRANSFERS, json=body, token=owner.token, key=idempotency_key)
    assert (again.data, again.headers["Idempotent-Replayed"]) == (sent.data, "true")
    assert client.get(BALANCE, token=key).json["balance"] == 6
    ((kind, actor_id),) = sql(
        "SELECT actor_kind, actor_id FROM transfers WHERE id = :id", id=sent.json["id"]
    )
    assert (kind, actor_id) == ("api_key", owner.id)


def test_the_audit_trail_says_which_key_it_was(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner, other = make_user(credits=10), make_user()
    key = people.make_api_key(owner, "self:write")
    body = {"to_user_id": str(other.id), "amount": 4}
    made = client.post(TRANSFERS, json=body, token=key, key=new_key()).json
    (event,) = sql(
        "SELECT actor_kind, actor_id, details FROM audit_events WHERE subject_id = :id",
        id=made["id"],
    )
    assert (event.actor_kind, event.actor_id) == ("api_key", owner.id)
    assert event.details["api_key_id"] == str(people.id_of_key(key))


def test_looking_and_changing_are_scopes_of_their_own(client: Client, make_user: MakeUser) -> None:
    owner, other = make_user(credits=10), make_user()
    reading = people.make_api_key(owner, "self:read")
    writing = people.make_api_key(owner, "self:write")
    body = {"to_user_id": str(other.id), "amount": 4}

    def send(key: str) -> Any:
        return client.post(TRANSFERS, json=body, token=key, key=new_key())

    for method in ("GET", "HEAD"):
        assert client.request(method, ME, token=reading).status_code == 200
        assert client.request(method, ME, token=writing).status_code == 403
    assert send(writing).status_code == 201
    refused = send(reading)
    assert outcome(refused) == (403, "FORBIDDEN")
    assert "self:write" in refused.json["error"]["message"]


def test_a_permission_opens_only_what_asks_for_it(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    user = make_user(credits=5)
    key = people.make_api_key(admin, "users:read")
    assert client.get(USERS, token=key).status_code == 200
    assert client.get(f"{USERS}/{user.id}", token=key).json["id"] == str(user.id)
    assert outcome(client.get(ME, token=key)) == (403, "FORBIDDEN")
    refused = client.get("/api/v1/audit/events?unknown=1", token=key)
    assert outcome(refused) == (403, "FORBIDDEN")
    assert "audit:read" in refused.json["error"]["message"]
    (event,) = sql(
        "SELECT actor_kind, details FROM audit_events"
        " WHERE actor_id = :id AND action = 'auth.access.denied'",
        id=admin.id,
    )
    assert event.actor_kind == "api_key"
    assert event.details["permission"] == "audit:read"
    assert event.details["api_key_id"] == str(people.id_of_key(key))


def test_what_shows_others_things_to_staff_shows_a_key_without_the_permission_its_owners_only(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    user = make_user(credits=5)
    ((transfer_id,),) = sql("SELECT id FROM transfers WHERE to_account_id = :id", id=user.id)
    urls = (f"{USERS}/{user.id}", f"{TRANSFERS}/{transfer_id}")
    own = people.make_api_key(admin, "self:read")
    staff = people.make_api_key(admin, "users:read", "credits:read")
    other = people.make_api_key(admin, "self:write", "users:write")
    for url in urls:
        assert outcome(client.get(url, token=own)) == (404, "NOT_FOUND")
        assert client.get(url, token=staff).status_code == 200
        assert outcome(client.get(url, token=other)) == (403, "FORBIDDEN")
    assert client.get(f"{USERS}/{admin.id}", token=own).status_code == 200


def test_a_key_loses_what_its_owner_loses_on_its_next_request_and_gets_it_back(
    client: Client, make_user: MakeUser
) -> None:
    owner, user = make_user(roles=("support",)), make_user()
    key = people.make_api_key(owner, "users:read", "credits:grant")
    assert client.get(USERS, token=key).status_code == 200
    give_roles(owner)
    assert outcome(client.get(USERS, token=key)) == (403, "FORBIDDEN")
    # Its scope still lets it in where owners are shown their own, and shows nothing else.
    assert client.get(f"{USERS}/{user.id}", token=key).status_code == 404
    give_roles(owner, "finance")
    assert client.get(USERS, token=key).status_code == 200
    body = {"user_id": str(user.id), "amount": 1, "memo": "m"}
    grants = "/api/v1/credits/grants"
    assert client.post(grants, json=body, token=key, key=new_key()).status_code == 201


def test_staff_acts_by_a_key_on_nobody_who_may_more_than_the_key(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    key = people.make_api_key(admin, "users:suspend")
    for user, status in ((make_user(), 200), (make_user(roles=("service",)), 403)):
        url = f"{USERS}/{user.id}/suspend"
        answer = client.post(url, json={"reason": "For a test"}, token=key)
        assert answer.status_code == status


def test_no_key_opens_what_is_for_people(
    app: Flask, client: Client, admin: TestUser, sql: Sql
) -> None:
    key = people.make_api_key(admin, *sorted(people.PERMISSIONS), "self:read", "self:write")
    tried = 0
    for rule, method, view in operations(app):
        if guards.access(view) == guards.PUBLIC or guards.scopes_for(view, method):
            continue
        path = path_of(rule).replace("{", "").replace("}", "")
        path = "/".join(str(uuid4()) if part.endswith("_id") else part for part in path.split("/"))
        answer = client.request(method.upper(), path + "?unknown=1", token=key, data=b"{")
        assert outcome(answer) == (403, "FORBIDDEN"), path
        assert "password" in answer.json["error"]["message"]
        tried += 1
    assert tried >= 12
    denied = sql(
        "SELECT details FROM audit_events WHERE actor_id = :id AND action = 'auth.access.denied'",
        id=admin.id,
    )
    assert {event.details["permission"] for event in denied} == {
        "users:suspend",
        "users:write",
    }


def test_public_operations_do_not_care_for_a_key(client: Client, make_user: MakeUser) -> None:
    owner = make_user()
    for key in (people.make_api_key(owner, "self:read"), "bk_none"):
        body = {"email": owner.email, "password": owner.password}
        assert client.post("/api/v1/auth/login", json=body, token=key).status_code == 200


def test_a_key_rests_while_its_owner_is_suspended(client: Client, make_user: MakeUser) -> None:
    owner = make_user()
    key = people.make_api_key(owner, "self:read")
    with later(0):
        suspend(owner)
        assert outcome(client.get(ME, token=key)) == (401, "UNAUTHENTICATED")
        with transaction() as session:
            suspension.reinstate(session, actor=Actor(kind="cli"), user_id=owner.id)
        assert client.get(ME, token=key).status_code == 200
        with later(60):
            until = clock.now()
        suspend(owner, until=until)
        assert client.get(ME, token=key).status_code == 401
        with later(60):
            answer = client.get(ME, token=key)
            assert (answer.status_code, answer.json["status"]) == (200, "active")


@pytest.mark.parametrize("status", ["deleting", "erased"])
def test_a_key_of_a_user_who_is_going_is_refused(
    client: Client, make_user: MakeUser, sql: Sql, status: str
) -> None:
    owner = make_user()
    key = people.make_api_key(owner, "self:read")
    sql(SET_STATUS, status=status, id=owner.id)
    assert outcome(client.get(ME, token=key)) == (401, "UNAUTHENTICATED")


def test_a_key_outlives_the_login_sessions_of_its_owner(
    client: Client, make_user: MakeUser
) -> None:
    owner = make_user()
    key = people.make_api_key(owner, "self:read")
    assert client.post("/api/v1/auth/logout-all", token=owner.token).status_code == 204
    assert client.get(ME, token=key).status_code == 200


def test_the_last_use_is_written_once_a_minute(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    owner = make_user()
    key = people.make_api_key(owner, "self:read")
    assert last_used(sql, key) is None
    with later(0):
        first = clock.now()
        client.get(ME, token=key)
        assert last_used(sql, key) == first
        (item,) = client.get("/api/v1/api-keys", token=owner.token).json["items"]
        assert item["last_used_at"] == first.isoformat().replace("+00:00", "Z")
        with later(59):
            client.get(ME, token=key)
        assert last_used(sql, key) == first
        with later(60):
            # Used, whatever it was refused.
            client.get(USERS, token=key)
            assert last_used(sql, key) == clock.now()
        # A wrong secret is no use.
        with later(600):
            client.get(ME, token=key[:-4] + "AAAA")
        assert (last_used(sql, key) - first).total_seconds() == 60


def test_a_key_has_a_limit_of_its_own(
    client: Client, make_user: MakeUser, limited: SwitchOn
) -> None:
    owner = make_user()
    keys = [people.make_api_key(owner, "self:read") for _ in range(2)]
    limited(rate_limit_user_per_minute=3)
    with later(0):
        for token in (*keys, owner.token):
            answers = [client.get(ME, token=token) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert_limited(answers[-1], limit=3, within=60)
