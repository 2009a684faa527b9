"""The audit trail as staff read it, as users read it, and as the database keeps it."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Row

from app.audit import service as audit
from app.audit.actions import Action
from app.platform.actor import Actor
from app.platform.db import transaction
from tests.client import Client
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
EVENTS = "/api/v1/audit/events"
LOG = "/api/v1/users/me/security-log"


@pytest.fixture
def staff(make_user: MakeUser) -> TestUser:
    return make_user(roles=("support",))


def record(action: Action = Action.GRANT_CREATED, **given: Any) -> UUID:
    """Record an event in a transaction of its own."""
    fields = {"actor": Actor(kind="system"), "subject_type": "user", "subject_id": uuid4()} | given
    with transaction() as session:
        return audit.record(session, action, **fields)


def found(client: Client, staff: TestUser, **query: Any) -> list[str]:
    answer = client.get(EVENTS, token=staff.token, query_string=query)
    assert answer.status_code == 200, answer.json
    return [event["id"] for event in answer.json["items"]]


def test_staff_see_who_did_what_to_whom_from_where(
    client: Client, staff: TestUser, make_user: MakeUser
) -> None:
    subject, actor_id = make_user().id, uuid4()
    actor = Actor(
        kind="user", user_id=actor_id, request_id="r-1", address="2001:db8::7", user_agent="curl/8"
    )
    event_id = record(
        actor=actor, subject_id=subject, details={"amount": 5}, personal={"name": "Ada"}
    )
    answer = client.get(EVENTS, token=staff.token, query_string={"actor_id": str(actor_id)})
    assert answer.headers["Cache-Control"] == "no-store"
    (event,) = answer.json["items"]
    assert event == {
        "id": str(event_id),
        "action": "credits.grant.created",
        "actor_id": str(actor_id),
        "actor_kind": "user",
        "subject_type": "user",
        "subject_id": str(subject),
        "request_id": "r-1",
        "address": "2001:db8::7",
        "details": {"amount": 5},
        "created_at": event["created_at"],
    }


def test_events_without_a_personal_part_have_no_address(client: Client, staff: TestUser) -> None:
    subject = uuid4()
    record(subject_id=subject)
    answer = client.get(EVENTS, token=staff.token, query_string={"subject_id": str(subject)})
    (event,) = answer.json["items"]
    assert (event["address"], event["actor_kind"], event["actor_id"]) == (None, "system", None)
    assert event["request_id"] is None


def test_events_are_found_by_every_filter(client: Client, staff: TestUser, sql: Sql) -> None:
    actor = Actor(kind="user", user_id=uuid4(), request_id=uuid4().hex)
    subject = uuid4()
    first = record(Action.GRANT_CREATED, actor=actor, subject_id=subject)
    second = record(Action.TRANSFER_CREATED, actor=actor, subject_id=uuid4())
    both = [str(second), str(first)]
    assert found(client, staff, actor_id=actor.user_id) == both
    assert found(client, staff, request_id=actor.request_id) == both
    assert found(client, staff, subject_id=subject) == [str(first)]
    mine = {"actor_id": actor.user_id}
    assert found(client, staff, **mine, action="credits.transfer.created") == [str(second)]
    assert found(client, staff, **mine, action="users.user.created") == []
    ((moment,),) = sql("SELECT created_at FROM audit_events WHERE id = :id", id=first)

    def text(time: datetime) -> str:
        return time.isoformat().replace("+00:00", "Z")

    assert found(client, staff, **mine, created_after=text(moment)) == [str(second)]
    just_before = text(moment - timedelta(microseconds=1))
    assert found(client, staff, **mine, created_after=just_before) == both
    assert found(client, staff, **mine, created_before=text(moment)) == []
    just_after = text(moment + timedelta(microseconds=1))
    assert found(client, staff, **mine, created_before=just_after) == [str(first)]


def test_events_are_read_page_by_page(client: Client, staff: TestUser) -> None:
    actor = Actor(kind="user", user_id=uuid4())
    recorded = [str(record(actor=actor)) for _ in range(5)]
    query: dict[str, Any] = {"actor_id": actor.user_id, "per_page": 2}
    walked = []
    while True:
        answer = client.get(EVENTS, token=staff.token, query_string=query)
        walked += [event["id"] for event in answer.json["items"]]
        if answer.json["next_cursor"] is None:
            break
        query["cursor"] = answer.json["next_cursor"]
    assert walked == recorded[::-1]


@pytest.mark.parametrize(
    "query",
    [
        {"actor_id": "1"},
        {"subject_id": "x"},
        {"action": "credits.grant.forgotten"},
        {"request_id": "x" * 129},
        {"created_after": "1"},
        {"created_before": "2026-11-21"},
    ],
)
def test_a_filter_of_the_wrong_shape_is_named(
    client: Client, staff: TestUser, query: dict[str, str]
) -> None:
    answer = client.get(EVENTS, token=staff.token, query_string=query)
    assert answer.status_code == 422
    assert list(answer.json["error"]["details"]) == list(query)


@pytest.mark.parametrize(
    ("role", "status"), [("support", 200), ("finance", 200), ("admin", 200), ("service", 403)]
)
def test_who_may_read_the_audit_trail(
    client: Client, make_user: MakeUser, role: str, status: int
) -> None:
    user = make_user(roles=(role,))
    assert client.get(EVENTS, token=user.token).status_code == status


def test_the_digest_proves_the_personal_part(sql: Sql, app: Flask) -> None:
    event_id = record(actor=Actor(kind="cli", address="192.0.2.1"), personal={"email": "ä@b.c"})
    ((digest, salt, data, owner, subject),) = sql(
        "SELECT e.personal_digest, p.salt, p.data, p.subject_id, e.subject_id FROM audit_events e"
        " JOIN audit_personal p ON p.event_id = e.id WHERE e.id = :id",
        id=event_id,
    )
    assert hashlib.sha256(bytes(salt) + bytes(data)).digest() == bytes(digest)
    assert owner == subject


def test_a_mere_address_belongs_to_the_actor(sql: Sql, app: Flask) -> None:
    actor = Actor(kind="user", user_id=uuid4(), address="192.0.2.1")
    owner = "SELECT subject_id FROM audit_personal WHERE event_id = :id"
    assert sql(owner, id=record(actor=actor)) == [(actor.user_id,)]
    subject = uuid4()
    stranger = Actor(kind="anonymous", address="192.0.2.1")
    assert sql(owner, id=record(actor=stranger, subject_id=subject)) == [(subject,)]
    other = record(actor=stranger, subject_type="transfer", subject_id=subject)
    assert sql(owner, id=other) == [(None,)]


def test_an_event_is_gone_with_the_transaction_that_it_is_part_of(sql: Sql, app: Flask) -> None:
    subject = uuid4()

    def fail_after_recording() -> None:
        with transaction() as session:
            audit.record(
                session,
                Action.GRANT_CREATED,
                actor=Actor(kind="cli", address="192.0.2.1"),
                subject_type="user",
                subject_id=subject,
            )
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_recording()
    assert not sql("SELECT 1 FROM audit_events WHERE subject_id = :id", id=subject)
    assert not sql("SELECT 1 FROM audit_personal WHERE subject_id = :id", id=subject)


def test_users_see_what_happened_to_them_and_addresses_of_their_own_only(
    client: Client,
) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": "difference engine 1822"}
    user_id = client.post("/api/v1/users", json=body | {"name": "Ada"}).json["id"]
    at_home, elsewhere = {"REMOTE_ADDR": "203.0.113.1"}, {"REMOTE_ADDR": "198.51.100.9"}
    token = client.post("/api/v1/auth/login", json=body, environ_base=at_home).json["access_token"]
    client.post("/api/v1/auth/login", json=body | {"password": "wrong"}, environ_base=elsewhere)
    staff = Actor(kind="user", user_id=uuid4(), address="198.51.100.2")
    record(Action.SESSION_ENDED, actor=staff, subject_id=UUID(user_id))
    answer = client.get(LOG, token=token)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    events = answer.json["items"]
    assert all(set(e) == {"id", "action", "by", "address", "created_at"} for e in events)
    assert [(event["action"], event["by"], event["address"]) for event in events] == [
        ("auth.session.ended", "staff", None),
        ("auth.login.failed", "system", None),
        ("auth.session.started", "you", "203.0.113.1"),
        ("users.user.created", "you", None),
    ]


def test_a_security_log_holds_nobody_elses_events(client: Client, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    mine = {event["id"] for event in client.get(LOG, token=user.token).json["items"]}
    theirs = {event["id"] for event in client.get(LOG, token=other.token).json["items"]}
    assert mine
    assert theirs
    assert not mine & theirs


def test_actions_follow_their_grammar() -> None:
    features = {"users", "auth", "credits", "keys", "orders", "support", "webhooks"}
    for action in Action:
        feature, _subject, verb = action.value.split(".")
        assert feature in features
        assert verb.endswith("ed") or verb in ("paid", "frozen", "unfrozen", "switched_off")
