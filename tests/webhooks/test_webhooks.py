"""Administrators make, change and delete webhooks, and see what became of each delivery."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from sqlalchemy import Engine, Row, text

from app.keys import master
from app.platform import clock
from app.support import retention
from app.webhooks import signatures
from app.webhooks.delivery import attempt, note, take
from app.webhooks.intake import take_in
from app.webhooks.values import EVENTS_KEPT, WEBHOOKS_MOST, Event
from tests import people
from tests.client import Client, new_key
from tests.people import TestUser
from tests.racing import at_once
from tests.watching import transaction_of_another, wait_until_somebody_waits_for
from tests.webhooks.conftest import clear
from tests.webhooks.listening import Receiver

MakeUser = Callable[..., TestUser]
Sql = Callable[..., list[Row[Any]]]
WEBHOOKS = "/api/v1/webhooks"
URL = "http://127.0.0.1:9/hook?at=here"
SHOWN = ["id", "url", "events", "description", "active", "created_at", "updated_at"]


@pytest.fixture(autouse=True)
def _alone(pool: None, sql: Sql) -> Iterator[None]:
    clear(sql)
    yield
    clear(sql)


@pytest.fixture
def api(client: Client, admin: TestUser) -> Callable[..., Any]:
    """A function that calls the API as an administrator: method, path and fields of the body."""

    def call(method: str, path: str = "", *, key: str | None = None, **body: Any) -> Any:
        return client.request(method, WEBHOOKS + path, token=admin.token, key=key, json=body)

    return call


@pytest.fixture
def look(client: Client, admin: TestUser) -> Callable[..., Any]:
    """A function that gets what lies below `/webhooks` as an administrator."""
    return lambda path="", **query: client.get(
        WEBHOOKS + path, token=admin.token, query_string=query
    )


def recorded(sql: Sql, subject_id: Any) -> list[tuple[str, Any]]:
    """Return what the audit trail says of a webhook or a delivery."""
    found = sql(
        "SELECT action, details FROM audit_events WHERE subject_id = :id ORDER BY created_at, id",
        id=subject_id,
    )
    return [(row.action.removeprefix("webhooks."), row.details) for row in found]


def test_a_webhook_is_made_with_a_secret_that_is_shown_once(
    api: Callable[..., Any], look: Callable[..., Any], sql: Sql
) -> None:
    answer = api("POST", url=URL, events=["order.paid", "*", "order.paid"], description="Mirror")
    made = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{WEBHOOKS}/{made['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert list(made) == [*SHOWN, "secret"]
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["url"], made["events"]) == (URL, ["*", "order.paid"])
    assert (made["description"], made["active"]) == ("Mirror", True)
    assert look(f"/{made['id']}").json == made
    assert look().json == {"items": [made], "next_cursor": None}
    ((stored,),) = sql("SELECT to_jsonb(webhooks)::text FROM webhooks")
    assert secret.removeprefix("whsec_") not in stored
    # The address may hold a credential of the app.
    made_event = ("webhook.created", {"events": ["*", "order.paid"]})
    assert recorded(sql, made["id"]) == [made_event]


def test_what_is_no_webhook_is_refused(api: Callable[..., Any]) -> None:
    good = {"url": URL, "events": ["*"]}
    for bad in (
        {"url": "nowhere"},
        {"url": "http://169.254.169.254/"},
        {"url": "https://app.example.com/" + "x" * 2_000},
        {"events": []},
        {"events": ["order.eaten"]},
        {"events": "*"},
        {"description": ""},
        {"active": 1},
        {"secret": "whsec_AAAA"},
    ):
        refused = api("POST", **(good | bad))
        assert refused.status_code == 422, bad
        assert [name.partition(".")[0] for name in refused.json["error"]["details"]] == [*bad]
    assert api("POST", url=URL).status_code == 422


def test_there_are_twenty_at_most_also_when_many_are_made_at_once(
    api: Callable[..., Any], sql: Sql
) -> None:
    """Seen failing without the lock under which they are counted."""
    for _ in range(WEBHOOKS_MOST - 2):
        assert api("POST", url=URL, events=["order.paid"]).status_code == 201
    answers = at_once(lambda _: api("POST", url=URL, events=["order.paid"]), 6)
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 4
    (refused, *_) = [answer for answer in answers if answer.status_code == 409]
    assert refused.json["error"]["code"] == "INVALID_STATE"
    assert sql("SELECT count(*) FROM webhooks") == [(WEBHOOKS_MOST,)]


def test_lists_are_pages_newest_first(api: Callable[..., Any], look: Callable[..., Any]) -> None:
    made = [api("POST", url=URL, events=["*"]).json["id"] for _ in range(3)]
    first = look(per_page=2).json
    second = look(per_page=2, cursor=first["next_cursor"]).json
    assert [each["id"] for each in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None


def test_a_webhook_is_changed_and_what_is_the_same_leaves_no_event(
    api: Callable[..., Any], sql: Sql
) -> None:
    made = api("POST", url=URL, events=["order.paid"], description="Mirror").json
    path = f"/{made['id']}"
    same = api("PATCH", path, url=URL, events=["order.paid"])
    assert same.json == {name: made[name] for name in SHOWN}
    changed = api("PATCH", path, active=False, description=None, events=["*"]).json
    assert (changed["active"], changed["description"], changed["events"]) == (False, None, ["*"])
    assert changed["updated_at"] > made["updated_at"]
    assert api("PATCH", path, url="https://10.0.0.1@evil.example/").status_code == 422
    events = recorded(sql, made["id"])[1:]
    fields = ["active", "description", "events"]
    assert events == [("webhook.changed", {"fields": fields})]


def test_a_rotation_shows_another_secret_once(api: Callable[..., Any], sql: Sql) -> None:
    made = api("POST", url=URL, events=["order.paid"]).json
    rotated = api("POST", f"/{made['id']}/rotate")
    assert rotated.status_code == 201
    assert list(rotated.json) == [*SHOWN, "secret"]
    assert rotated.json["secret"] != made["secret"]
    assert recorded(sql, made["id"])[1:] == [("webhook.rotated", {})]


def test_a_webhook_is_deleted_with_what_waits_for_it_once(
    api: Callable[..., Any], look: Callable[..., Any], make_user: MakeUser, sql: Sql
) -> None:
    made = api("POST", url=URL, events=["user.created"]).json
    make_user()
    assert take_in() == 1
    path, key = f"/{made['id']}", new_key()
    first, second = (api("DELETE", path, key=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (204, 204)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert recorded(sql, made["id"])[1:] == [("webhook.deleted", {})]
    assert sql("SELECT count(*) FROM webhook_deliveries") == [(0,)]
    for answer in (
        look(path),
        look(f"{path}/deliveries"),
        api("PATCH", path, active=True),
        api("DELETE", path),
        api("POST", f"{path}/rotate"),
        api("POST", f"{path}/deliveries/{uuid4()}/replay"),
    ):
        assert answer.status_code == 404


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_twin_of_a_running_change_is_told_to_come_back(
    api: Callable[..., Any], owner_engine: Engine, method: str
) -> None:
    path, key = f"/{api('POST', url=URL, events=['order.paid']).json['id']}", new_key()
    body = {"active": False} if method == "PATCH" else {}
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as other:
            other.execute(text("SELECT FROM webhooks FOR UPDATE"))
            first = thread.submit(api, method, path, key=key, **body)
            wait_until_somebody_waits_for(other)
            twin = api(method, path, key=key, **body)
            assert (twin.status_code, twin.headers["Retry-After"]) == (409, "1")
        assert first.result(10).status_code in (200, 204)


def test_an_answer_with_a_secret_is_stored_under_no_key(api: Callable[..., Any]) -> None:
    key = new_key()
    one, other = (api("POST", key=key, url=URL, events=["*"]).json for _ in range(2))
    assert one["id"] != other["id"]
    rotations = [api("POST", f"/{one['id']}/rotate", key=key).json for _ in range(2)]
    assert rotations[0]["secret"] != rotations[1]["secret"]


def test_deliveries_are_listed_by_what_became_of_them_and_replayed(
    api: Callable[..., Any],
    look: Callable[..., Any],
    make_user: MakeUser,
    receiver: Receiver,
    sql: Sql,
) -> None:
    made = api("POST", url=receiver.url("status/503"), events=["user.created"]).json
    path = f"/{made['id']}/deliveries"
    users = []
    for _ in range(3):
        users.append(make_user())
        take_in()
    messages = take(made["id"], most=10)
    note([(message, attempt(message)) for message in messages])
    sql(
        "UPDATE webhook_deliveries SET status = 'dead', next_try_at = NULL, ended_at = created_at"
        " WHERE id = :id",
        id=messages[0].delivery_id,
    )
    listed = look(path).json["items"]
    assert [each["subject_id"] for each in listed] == [str(user.id) for user in users[::-1]]
    assert {each["status"] for each in listed} == {"pending", "dead"}
    assert {(each["attempts"], each["last_status"]) for each in listed} == {(1, 503)}
    assert look(path, status="delivered").json["items"] == []
    assert len(look(path, status="pending").json["items"]) == 2
    (dead,) = look(path, status="dead").json["items"]
    assert list(dead) == [
        "id", "event_id", "type", "subject_id", "status", "attempts", "next_try_at", "last_try_at",
        "last_status", "last_error", "created_at", "ended_at",
    ]  # fmt: skip
    assert look(path, status="lost").status_code == 422
    assert look(path, per_page=2).json["next_cursor"]

    key = new_key()
    replays = [api("POST", f"{path}/{dead['id']}/replay", key=key) for _ in range(2)]
    assert [answer.status_code for answer in replays] == [202, 202]
    assert replays[0].json == dead | {
        "status": "pending",
        "attempts": 0,
        "next_try_at": replays[0].json["next_try_at"],
        "ended_at": None,
    }
    assert recorded(sql, dead["id"]) == [("delivery.replayed", {"webhook_id": made["id"]})]
    assert [message.delivery_id for message in take(made["id"], most=10)] == [
        messages[0].delivery_id
    ]
    api("PATCH", f"/{made['id']}", active=False)
    refused = api("POST", f"{path}/{dead['id']}/replay")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "INVALID_STATE")
    # Another webhook has no such delivery.
    other = api("POST", url=URL, events=["order.paid"]).json
    stranger = api("POST", f"/{other['id']}/deliveries/{dead['id']}/replay")
    assert stranger.status_code == 404


def test_an_api_key_with_the_scope_opens_webhooks(client: Client, admin: TestUser) -> None:
    key = people.make_api_key(admin, "webhooks:write")
    body = {"url": URL, "events": ["order.paid"]}
    assert client.post(WEBHOOKS, token=key, json=body).status_code == 201
    assert client.get(WEBHOOKS, token=key).status_code == 200


def test_the_document_lists_every_event(client: Client) -> None:
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    listed = schemas["WebhookIn"]["properties"]["events"]["items"]["enum"]
    assert listed == ["*", *(event.value for event in Event)]


def test_secrets_move_to_a_new_master_key_and_go_on_signing(
    api: Callable[..., Any], sql: Sql, make_user: MakeUser, receiver: Receiver, settings: Any
) -> None:
    path = f"status/200?{uuid4().hex}"
    made = api("POST", url=receiver.url(path), events=["user.created"]).json
    rotated = api("POST", f"/{made['id']}/rotate").json
    make_user()
    take_in()
    ((number, key),) = settings.auth_master_keys
    newer = (number + 1, b"n" * 32)
    try:
        master.configure([newer, (number, key)])
        assert signatures.reencrypt() == 1
        assert sql("SELECT master_key_version FROM webhooks") == [(number + 1,)]
        assert signatures.reencrypt() == 0
        # The machines that don't have it yet leave it alone.
        master.configure([(number, key), newer])
        assert signatures.reencrypt() == 0
        master.configure([newer])
        messages = take(made["id"], most=1)
        note([(message, attempt(message)) for message in messages])
        (got,) = receiver.got(path)
        assert got.verified(rotated["secret"]) == got.verified(made["secret"])
    finally:
        master.configure(settings.auth_master_keys)


def test_without_its_master_key_a_secret_signs_nothing_and_is_told(
    api: Callable[..., Any], sql: Sql, make_user: MakeUser, settings: Any
) -> None:
    made = api("POST", url=URL, events=["user.created"]).json
    make_user()
    take_in()
    try:
        master.configure([(9, b"n" * 32)])
        assert take(made["id"], most=1) == []
        assert signatures.reencrypt() == 0
        (row,) = sql("SELECT attempts, last_error FROM webhook_deliveries")
        assert row == (1, "unsigned")
        # A rotation makes one that can be opened again.
        assert api("POST", f"/{made['id']}/rotate").status_code == 201
        assert sql("SELECT master_key_version, previous_secret FROM webhooks") == [(9, None)]
    finally:
        master.configure(settings.auth_master_keys)


def test_events_and_their_deliveries_go_after_thirty_days(
    api: Callable[..., Any], make_user: MakeUser, sql: Sql
) -> None:
    began = clock.now()
    api("POST", url=URL, events=["user.created"])
    make_user()
    take_in()
    with time_machine.travel(began + EVENTS_KEPT - timedelta(seconds=1), tick=False):
        retention.sweep()
        assert sql("SELECT count(*) FROM webhook_deliveries") == [(1,)]
    with time_machine.travel(began + EVENTS_KEPT + timedelta(minutes=1), tick=False):
        assert retention.sweep()["webhook_events"] == 1
    assert sql("SELECT count(*) FROM webhook_deliveries") == [(0,)]
