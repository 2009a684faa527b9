"""A delivery is tried until the endpoint takes it, under one id, and never by two at once."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
import time_machine
from sqlalchemy import Row
from standardwebhooks import WebhookVerificationError

from app.platform import clock
from app.webhooks import delivery, service, transport
from app.webhooks.delivery import Outcome, attempt, note, take, waiting
from app.webhooks.intake import take_in
from app.webhooks.values import JITTER, LEASE, OVERLAP, WAITS, Failure
from tests import canaries
from tests.credits.sending import send
from tests.hooks import OPERATOR
from tests.racing import ROUNDS, at_once
from tests.webhooks.conftest import MakeUser, deliveries
from tests.webhooks.listening import Got, Receiver

MakeWebhook = Callable[..., dict[str, Any]]
Sql = Callable[..., list[Row[Any]]]


def work(webhook_id: UUID) -> int:
    """Do what a lane does once: take what is due, try it and note it; return how much it was."""
    messages = take(webhook_id, most=10)
    note([(message, attempt(message)) for message in messages])
    return len(messages)


@pytest.fixture
def path() -> str:
    """A path of the receiver that takes every message, and that no other test uses."""
    return f"status/200?{uuid4().hex}"


def test_a_message_is_verified_by_the_standards_own_library(
    receiver: Receiver,
    make_webhook: MakeWebhook,
    happen: Callable[[], None],
    sql: Sql,
    path: str,
) -> None:
    webhook = make_webhook(receiver.url(path), "user.created")
    happen()
    assert waiting() == [webhook["id"]]
    assert (work(webhook["id"]), work(webhook["id"])) == (1, 0)
    assert waiting() == []
    (got,) = receiver.got(path)
    (row,) = deliveries(sql, webhook["id"])
    told = got.verified(webhook["secret"])
    assert list(told) == ["type", "timestamp", "data"]
    assert (told["type"], told["data"]) == ("user.created", row.data)
    assert told["timestamp"] == row.data["updated_at"]
    assert got.id == str(row.event_id)
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["User-Agent"].startswith("bursar/")
    assert (row.status, row.attempts) == ("delivered", 1)
    assert (row.last_status, row.last_error) == (200, None)
    assert row.ended_at is not None
    # And by nothing but what the standard says.
    signed = f"{got.id}.{got.headers['webhook-timestamp']}.{got.body}".encode()
    key = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{mac}"
    with pytest.raises(WebhookVerificationError):
        Got(path=got.path, headers=got.headers, body=got.body + " ").verified(webhook["secret"])


def test_a_transfer_arrives_as_the_api_shows_it(
    client: Any,
    receiver: Receiver,
    make_user: MakeUser,
    make_webhook: MakeWebhook,
    path: str,
) -> None:
    webhook = make_webhook(receiver.url(path), "credits.transferred")
    sent = send(client, make_user(credits=5), make_user().id, 5, more={"memo": "für ☕"})
    take_in()
    work(webhook["id"])
    (got,) = receiver.got(path)
    # Byte for byte, and in the same order.
    assert got.body.endswith(f'"data":{sent.text}}}')
    assert got.verified(webhook["secret"])["data"] == sent.json


def test_it_is_tried_as_the_standard_says_under_one_id_and_is_dead_then(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql
) -> None:
    path = f"status/500?{uuid4().hex}"
    webhook = make_webhook(receiver.url(path))
    begun = clock.now()
    with time_machine.travel(begun, tick=False) as time:
        happen()
        for number, wait in enumerate(WAITS):
            (row,) = deliveries(sql, webhook["id"])
            assert (row.status, row.attempts) == ("pending", number)
            waits = row.next_try_at - clock.now()
            assert wait <= waits <= wait * (1 + JITTER)
            if wait:
                time.move_to(row.next_try_at - timedelta(milliseconds=1))
                assert (waiting(), work(webhook["id"])) == ([], 0)
            time.move_to(row.next_try_at)
            assert work(webhook["id"]) == 1
        (row,) = deliveries(sql, webhook["id"])
        assert (row.status, row.attempts, row.last_status) == ("dead", len(WAITS), 500)
        assert (row.next_try_at, row.ended_at, row.last_try_at) == (None, clock.now(), clock.now())
        time.shift(timedelta(days=2))
        assert (waiting(), work(webhook["id"])) == ([], 0)
    got = receiver.got(path)
    assert {each.id for each in got} == {str(row.event_id)}
    assert len({each.headers["webhook-timestamp"] for each in got}) == len(got) == len(WAITS)
    assert len({each.body for each in got}) == 1
    assert timedelta(days=3) < sum(WAITS, timedelta()) < timedelta(days=4)


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        # Less than the schedule has before the second try, more, and more than it ever has.
        ("1", timedelta(seconds=5)),
        ("3600", timedelta(hours=1)),
        ("99999999", timedelta(hours=24)),
    ],
)
def test_a_message_waits_as_long_as_the_endpoint_asks_up_to_a_day(
    receiver: Receiver,
    make_webhook: MakeWebhook,
    happen: Callable[[], None],
    sql: Sql,
    asked: str,
    wait: timedelta,
) -> None:
    webhook = make_webhook(receiver.url(f"later/429/{asked}?{uuid4().hex}"))
    with time_machine.travel(clock.now(), tick=False):
        happen()
        assert work(webhook["id"]) == 1
        (row,) = deliveries(sql, webhook["id"])
        assert (row.status, row.attempts, row.last_status) == ("pending", 1, 429)
        assert wait <= row.next_try_at - clock.now() <= wait * (1 + JITTER)


def test_a_dead_one_is_replayed_under_the_same_id(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql, path: str
) -> None:
    webhook = make_webhook(receiver.url(path))
    happen()
    sql(
        "UPDATE webhook_deliveries SET status = 'dead', attempts = 10, next_try_at = NULL,"
        " ended_at = created_at WHERE webhook_id = :id",
        id=webhook["id"],
    )
    (row,) = deliveries(sql, webhook["id"])
    for times in (1, 2):
        with delivery.transaction() as session:
            renewed = service.replay(
                session, actor=OPERATOR, webhook_id=webhook["id"], delivery_id=row.id
            )
        assert (renewed.status, renewed.attempts, renewed.ended_at) == ("pending", 0, None)
        assert work(webhook["id"]) == 1
        assert [got.id for got in receiver.got(path)] == [str(row.event_id)] * times
    assert deliveries(sql, webhook["id"])[0].status == "delivered"


def test_an_endpoint_that_is_gone_switches_its_webhook_off(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql
) -> None:
    webhook = make_webhook(receiver.url("status/410"))
    happen()
    happen()
    assert work(webhook["id"]) == 2
    assert {row.status for row in deliveries(sql, webhook["id"])} == {"dead"}
    assert not service.get(webhook["id"]).active
    events = sql(
        "SELECT action, actor_kind FROM audit_events WHERE subject_id = :id ORDER BY created_at",
        id=webhook["id"],
    )
    assert events == [
        ("webhooks.webhook.created", "cli"),
        ("webhooks.webhook.switched_off", "system"),
    ]
    # Nothing more is told, and what waits goes on waiting.
    happen()
    assert len(deliveries(sql, webhook["id"])) == 2
    assert waiting() == []


def test_after_a_rotation_both_secrets_sign_for_a_day(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], path: str
) -> None:
    webhook = make_webhook(receiver.url(path))
    secrets = [webhook["secret"]]
    rotated_at = clock.now()
    for _ in range(2):
        secrets.append(service.rotate(actor=OPERATOR, webhook_id=webhook["id"])["secret"])
    canaries.watch(*secrets)
    happen()
    work(webhook["id"])
    (got,) = receiver.got(path)
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    assert got.verified(secrets[2]) == got.verified(secrets[1]) == json.loads(got.body)
    with pytest.raises(WebhookVerificationError):
        got.verified(secrets[0])
    with time_machine.travel(rotated_at + OVERLAP + timedelta(minutes=1), tick=False):
        happen()
        work(webhook["id"])
        got = receiver.got(path)[-1]
        assert got.verified(secrets[2])
        with pytest.raises(WebhookVerificationError):
            got.verified(secrets[1])


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_of_many_at_once_each_delivery_is_taken_by_one(
    make_webhook: MakeWebhook, happen: Callable[[], None], _round: int
) -> None:
    """Seen failing without the lock of the rows that are looked for."""
    webhook_id = make_webhook()["id"]
    for _ in range(4):
        happen()
    taken = at_once(lambda _: take(webhook_id, most=2), 6)
    ids = [message.delivery_id for messages in taken for message in messages]
    assert len(ids) == len(set(ids)) == 4


def test_what_a_dead_worker_took_is_due_again_and_its_late_word_is_dropped(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql, path: str
) -> None:
    """Seen failing without the condition on the time that was taken until."""
    webhook = make_webhook(receiver.url(path))
    begun = clock.now()
    with time_machine.travel(begun, tick=False) as time:
        happen()
        (mine,) = take(webhook["id"], most=1)
        time.move_to(begun + LEASE - timedelta(seconds=1))
        assert take(webhook["id"], most=1) == []
        time.move_to(begun + LEASE)
        assert work(webhook["id"]) == 1
        # The silent worker was alive after all, and thinks that it has failed.
        note([(mine, Outcome(at=clock.now(), failure=Failure.TIMED_OUT))])
    (row,) = deliveries(sql, webhook["id"])
    assert (row.status, row.attempts, row.last_error) == ("delivered", 1, None)


def test_a_replay_during_a_try_is_a_try_of_its_own(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql, path: str
) -> None:
    webhook = make_webhook(receiver.url(path))
    happen()
    (message,) = take(webhook["id"], most=1)
    with delivery.transaction() as session:
        service.replay(
            session, actor=OPERATOR, webhook_id=webhook["id"], delivery_id=message.delivery_id
        )
    note([(message, attempt(message))])
    assert work(webhook["id"]) == 1
    assert len(receiver.got(path)) == 2
    assert deliveries(sql, webhook["id"])[0].status == "delivered"


def test_a_mistake_of_ours_is_a_try_that_failed(
    make_webhook: MakeWebhook,
    happen: Callable[[], None],
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mistaken(*_given: Any, **_more: Any) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(transport, "post", mistaken)
    webhook_id = make_webhook()["id"]
    happen()
    assert work(webhook_id) == 1
    (row,) = deliveries(sql, webhook_id)
    assert (row.status, row.attempts, row.last_error) == ("pending", 1, "internal")


def test_a_change_of_address_counts_for_what_waits(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], path: str
) -> None:
    webhook = make_webhook()
    happen()
    with delivery.transaction() as session:
        service.change(
            session,
            actor=OPERATOR,
            webhook_id=webhook["id"],
            changes={"url": receiver.url(path)},
        )
    assert work(webhook["id"]) == 1
    assert len(receiver.got(path)) == 1


def test_who_deletes_a_webhook_ends_its_deliveries_under_a_workers_hands(
    make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql
) -> None:
    webhook_id = make_webhook()["id"]
    happen()
    (message,) = take(webhook_id, most=1)
    with delivery.transaction() as session:
        service.delete(session, actor=OPERATOR, webhook_id=webhook_id)
    note([(message, Outcome(at=clock.now(), status=410))])
    assert take(webhook_id, most=1) == []
    assert sql("SELECT count(*) FROM webhook_deliveries") == [(0,)]


def test_the_time_of_a_message_is_that_of_its_try(
    receiver: Receiver, make_webhook: MakeWebhook, happen: Callable[[], None], path: str
) -> None:
    webhook = make_webhook(receiver.url(path))
    happen()
    now = clock.now() + timedelta(minutes=10)
    with time_machine.travel(now, tick=False):
        work(webhook["id"])
    (got,) = receiver.got(path)
    assert got.headers["webhook-timestamp"] == str(int(now.timestamp()))
    told = datetime.fromisoformat(json.loads(got.body)["timestamp"])
    assert told < now - timedelta(minutes=9)
