"""Each change tells one event, in its transaction, with the resource as the API shows it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, Row, text

from app.auth import suspension
from app.credits import holds, service
from app.orders import cancellation
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import transaction, trial
from app.support import erasure
from app.webhooks.intake import take_in
from app.webhooks.values import Event
from tests.client import Client, new_key
from tests.credits.sending import TRANSFERS, send
from tests.mailing import Postman
from tests.orders.buying import order_of, place, step
from tests.people import TestUser
from tests.shop import make_product
from tests.support.leaving import ME, let_go, past_undo, undo
from tests.watching import transaction_of_another, wait_until_somebody_waits_for
from tests.webhooks.conftest import deliveries

MakeUser = Callable[..., TestUser]
MakeWebhook = Callable[..., dict[str, Any]]
Sql = Callable[..., list[Row[Any]]]
API = "/api/v1"


@pytest.fixture
def told(make_webhook: MakeWebhook, sql: Sql) -> Callable[[], list[tuple[str, Any]]]:
    """A function that returns what was told since it was last asked: events and their data."""
    webhook_id = make_webhook()["id"]

    def news() -> list[tuple[str, Any]]:
        while take_in():
            pass
        found = [(row.type, row.data) for row in deliveries(sql, webhook_id)]
        sql("DELETE FROM webhook_events")
        return found

    return news


def test_users_tell_of_their_lives(
    client: Client,
    make_user: MakeUser,
    admin: TestUser,
    postman: Postman,
    told: Callable[[], Any],
) -> None:
    told()
    user = make_user(name="Ada")
    path = f"{API}/users/{user.id}"

    def shown() -> Any:
        return client.get(path, token=admin.token).json

    def act(action: str, **body: Any) -> Any:
        answer = client.post(f"{path}/{action}", token=admin.token, json=body)
        assert answer.status_code == 200
        return answer.json

    # Signing in tells nothing.
    assert told() == [("user.created", shown())]
    assert client.patch(ME, token=user.token, json={"name": "Ada L."}).status_code == 200
    assert told() == [("user.updated", shown())]
    roles = client.put(f"{path}/roles", token=admin.token, json={"roles": ["support"]})
    assert told() == [("user.updated", roles.json)]
    assert roles.json["roles"] == ["user", "support"]
    assert told() == []
    suspended = act("suspend", reason="For a test")
    assert told() == [("user.suspended", suspended)]
    reinstated = act("reinstate")
    assert told() == [("user.reinstated", reinstated)]
    assert let_go(client, admin, user).status_code == 202
    assert told() == [("user.deleted", shown())]
    (token,) = (mail.token for mail in postman.deliver(user_id=user.id) if mail.kind == "deletion")
    assert undo(client, token).status_code == 204
    assert told() == [("user.reinstated", shown())]
    assert let_go(client, admin, user).status_code == 202
    told()
    with past_undo():
        assert erasure.erase(user.id, begun_by=clock.now(), actor=Actor(kind="system"))
    assert told() == [("user.erased", {"id": str(user.id)})]


def test_a_new_password_and_a_login_tell_nothing(
    client: Client, make_user: MakeUser, told: Callable[[], Any]
) -> None:
    user = make_user()
    told()
    body = {"current_password": user.password, "new_password": "another-Passphrase-of-mine"}
    assert client.put(f"{ME}/password", token=user.token, json=body).status_code == 204
    assert told() == []


def test_a_suspension_whose_time_is_over_is_told_as_over(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql, told: Callable[[], Any]
) -> None:
    user = make_user()
    with transaction() as session:
        suspension.suspend(
            session, actor=Actor(kind="cli"), user_id=user.id, reason="For a test", until=None
        )
    over = "UPDATE users SET suspended_until = created_at WHERE id = :id"
    sql(over, id=user.id)
    told()
    changed = client.patch(f"{API}/users/{user.id}", token=admin.token, json={"name": "Ada"})
    assert changed.json["status"] == "active"
    assert told() == [("user.updated", changed.json)]


def test_credits_tell_of_each_movement_once(
    client: Client, make_user: MakeUser, admin: TestUser, told: Callable[[], Any]
) -> None:
    ada, bob = make_user(credits=100), make_user()
    told()

    def post(path: str, **body: Any) -> Any:
        answer = client.post(f"{API}/{path}", token=admin.token, json=body, key=new_key())
        assert answer.status_code == 201
        return answer.json

    granted = post("credits/grants", user_id=str(ada.id), amount=5, memo="Welcome")
    assert told() == [("credits.granted", granted)]
    sent = send(client, ada, bob.id, 30, more={"memo": 'Lunch, "with" ☕'}).json
    assert told() == [("credits.transferred", sent)]
    charged = post("credits/charges", user_id=str(ada.id), amount=1, memo="Usage")
    assert told() == [("credits.charged", charged)]
    reversed_ = post(f"credits/transfers/{sent['id']}/reverse", reason="Wrong Bob")
    assert told() == [("credits.reversed", reversed_)]
    body = {"transfers": [{"to_user_id": str(bob.id), "amount": each} for each in (1, 2, 3)]}
    batch = client.post(f"{TRANSFERS}/batch", json=body, token=ada.token, key=new_key())
    news = told()
    assert [event for event, _ in news] == ["credits.transferred"] * 3
    assert sorted(data["amount"] for _, data in news) == [1, 2, 3]
    assert {data["id"] for _, data in news} == {each["id"] for each in batch.json["items"]}


def test_holds_tell_of_their_beginning_and_end(
    client: Client, make_user: MakeUser, sql: Sql, told: Callable[[], Any]
) -> None:
    ada = make_user(credits=100)
    told()
    path = f"{API}/credits/holds"

    def post(path: str, **body: Any) -> Any:
        return client.post(path, token=ada.token, json=body, key=new_key()).json

    first = post(path, amount=20, memo="Up to 20 pages")
    assert told() == [("hold.placed", first)]
    captured = post(f"{path}/{first['id']}/capture", amount=7)
    news = dict(told())
    assert news.keys() == {"hold.captured", "credits.charged"}
    assert news["hold.captured"] == captured
    assert news["credits.charged"]["amount"] == captured["captured"] == 7
    second = post(path, amount=20)
    released = post(f"{path}/{second['id']}/release")
    assert told() == [("hold.placed", second), ("hold.released", released)]
    with transaction() as session:
        placed = holds.place(
            session,
            actor=Actor(kind="user", user_id=ada.id),
            amount=1,
            user_id=None,
            memo=None,
        )
    with past_undo():
        assert holds.expire_due() >= 1
    # Holds of other tests may have expired with it.
    news = [event for event, data in told() if data["id"] == str(placed.id)]
    assert news == ["hold.placed", "hold.expired"]


def test_orders_tell_of_each_step(
    client: Client, make_user: MakeUser, admin: TestUser, told: Callable[[], Any]
) -> None:
    ada = make_user(credits=100)
    products = [make_product(price=price) for price in (10, 1)]
    told()
    items = [(product.sku, number + 1) for number, product in enumerate(products)]
    order = place(client, ada, *items).json
    assert told() == [("order.placed", order)]
    paid = step(client, ada, order["id"], "pay").json
    assert told() == [("order.paid", paid)]
    fulfilled = step(client, admin, order["id"], "fulfil").json
    assert told() == [("order.fulfilled", fulfilled)]
    for amount in (4, None):
        more = {} if amount is None else {"amount": amount}
        refunded = step(client, admin, order["id"], "refund", reason="Broken", **more).json
        assert told() == [("order.refunded", refunded)]
    assert refunded["status"] == "refunded"
    other = place(client, ada, *items).json
    cancelled = step(client, ada, other["id"], "cancel").json
    assert told() == [("order.placed", other), ("order.cancelled", cancelled)]


def test_orders_that_cost_nothing_or_run_out_tell_too(
    client: Client, make_user: MakeUser, sql: Sql, told: Callable[[], Any]
) -> None:
    ada, free = make_user(), make_product(price=0)
    order = place(client, ada, (free.sku, 1)).json
    paid = step(client, ada, order["id"], "pay").json
    assert ("order.paid", paid) in told()
    late = place(client, ada, (free.sku, 1)).json
    told()
    with past_undo():
        assert cancellation.expire_due() >= 1
    expired = [data for event, data in told() if event == "order.cancelled"]
    assert order_of(client, ada, UUID(late["id"])) in expired


def test_every_event_of_the_list_is_told_by_a_test_of_this_file() -> None:
    text = Path(__file__).read_text()
    assert [event.value for event in Event if f'"{event.value}"' not in text] == []


def test_what_is_rolled_back_refused_or_only_tried_tells_nothing(
    client: Client, make_user: MakeUser, told: Callable[[], Any]
) -> None:
    ada, bob = make_user(credits=10), make_user()
    told()
    actor = Actor(kind="user", user_id=ada.id)
    with trial() as session:
        service.transfer(session, actor=actor, to_user_id=bob.id, amount=1, memo=None)
    assert send(client, ada, bob.id, 11).status_code == 402
    assert send(client, ada, bob.id, 1, query_string={"dry_run": "true"}).status_code == 200
    assert told() == []


def test_a_repeated_request_tells_once(
    client: Client, make_user: MakeUser, told: Callable[[], Any]
) -> None:
    ada, bob = make_user(credits=10), make_user()
    told()
    key = new_key()
    answers = [send(client, ada, bob.id, 1, key=key) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert told() == [("credits.transferred", answers[0].json)]


def test_only_what_an_active_webhook_wants_is_written(
    client: Client, make_user: MakeUser, make_webhook: MakeWebhook, sql: Sql
) -> None:
    ada, bob = make_user(credits=10), make_user()

    def waiting() -> list[str]:
        return [row.topic for row in sql("SELECT topic FROM outbox_events WHERE data NOTNULL")]

    assert send(client, ada, bob.id, 1).status_code == 201
    webhook = make_webhook("http://127.0.0.1:9/", "order.paid", "credits.granted")
    assert send(client, ada, bob.id, 1).status_code == 201
    assert waiting() == []
    make_user(credits=1)
    assert waiting() == ["credits.granted"]
    sql("UPDATE webhooks SET active = false WHERE id = :id", id=webhook["id"])
    make_user(credits=1)
    assert waiting() == ["credits.granted"]


def test_each_webhook_gets_what_it_wants_and_nobody_twice(
    client: Client, make_user: MakeUser, make_webhook: MakeWebhook, sql: Sql
) -> None:
    wants = {
        make_webhook("http://127.0.0.1:9/", *events)["id"]: set(events)
        for events in (["*"], ["user.created"], ["credits.granted", "order.paid"], ["order.paid"])
    }
    make_user(credits=1)
    assert (take_in(), take_in()) == (2, 0)
    for webhook_id, events in wants.items():
        found = [row.type for row in deliveries(sql, webhook_id)]
        all_of_them = {"user.created", "credits.granted"}
        assert sorted(found) == sorted(all_of_them & (events if "*" not in events else all_of_them))
    shared = sql("SELECT count(*) FROM webhook_events")
    assert shared == [(2,)]


def test_a_webhook_that_is_deleted_meanwhile_stops_nobody(
    make_user: MakeUser, make_webhook: MakeWebhook, sql: Sql, owner_engine: Engine
) -> None:
    """Seen failing without the lock on the webhooks: their rows were gone for the deliveries."""
    gone, there = make_webhook()["id"], make_webhook()["id"]
    make_user()
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as other:
            other.execute(text("DELETE FROM webhooks WHERE id = :id"), {"id": gone})
            taken = thread.submit(take_in)
            wait_until_somebody_waits_for(other)
        assert taken.result(10) == 1
    assert [row.webhook_id for row in sql("SELECT webhook_id FROM webhook_deliveries")] == [there]


def test_an_event_that_only_a_newer_worker_knows_stays(sql: Sql, make_webhook: MakeWebhook) -> None:
    make_webhook()
    sql(
        "INSERT INTO outbox_events (id, topic, subject_id, data, created_at)"
        " VALUES (:id, 'tea.poured', :id, '{}', :now)",
        id=ids.new(),
        now=clock.now(),
    )
    assert take_in() == 0


def test_what_apps_were_told_of_a_user_goes_with_the_user(
    client: Client, make_user: MakeUser, make_webhook: MakeWebhook, sql: Sql, admin: TestUser
) -> None:
    make_webhook()
    name = f"Name {uuid4().hex}"
    user = make_user(name=name, credits=3)
    take_in()
    assert client.patch(ME, token=user.token, json={"name": f"{name} B."}).status_code == 200
    assert let_go(client, admin, user, more={"forfeit": True}).status_code == 202
    holding = "SELECT count(*) FROM {} WHERE data::text LIKE :name"
    tables = ("webhook_events", "outbox_events")
    before = [sql(holding.format(table), name=f"%{name}%") for table in tables]
    assert before == [[(1,)], [(2,)]]
    with past_undo():
        assert erasure.erase(user.id, begun_by=clock.now(), actor=Actor(kind="system"))
    for table in tables:
        assert sql(holding.format(table), name=f"%{name}%") == [(0,)]
    # What has no name in it is still there.
    assert take_in() >= 1
    left = sql("SELECT type FROM webhook_events WHERE subject_id = :id", id=user.id)
    assert left == [("user.erased",)]
    assert sql("SELECT count(*) FROM webhook_events WHERE type = 'credits.granted'") == [(1,)]
