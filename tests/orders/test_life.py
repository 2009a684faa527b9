"""Orders are cancelled, delivered, run out, listed and exported; their owner may leave."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from sqlalchemy.exc import IntegrityError

from app.credits import verification
from app.orders import cancellation, order_queries, order_steps, spreadsheet
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from tests.client import Client
from tests.credits.sending import code
from tests.database import pool_on
from tests.orders.buying import ORDERS, order_of, place, step
from tests.shop import make_discount, make_order, make_product
from tests.watching import wait_until_waiting


def redeemed(sql: Any, discount: Any) -> int:
    ((count,),) = sql("SELECT redeemed FROM discounts WHERE id = :id", id=discount.id)
    return int(count)


def test_a_cancelled_order_gives_its_redemption_back(
    client: Client, make_user: Any, sql: Any
) -> None:
    user, spring = make_user(credits=10), make_discount(max_redemptions=1)
    more = {"discount_code": spring.code}
    placed = place(client, user, (make_product().sku, 1), more=more).json
    cancelled = step(client, user, placed["id"], "cancel").json
    assert cancelled.pop("cancelled_at").endswith("Z")
    ended = {"status": "cancelled", "cancel_reason": "by_user"}
    assert cancelled | {"cancelled_at": None} == placed | ended
    assert redeemed(sql, spring) == 0
    for name in ("cancel", "pay"):
        refused = step(client, user, placed["id"], name)
        assert (refused.status_code, code(refused)) == (409, "INVALID_STATE")
    assert redeemed(sql, spring) == 0


def test_a_refund_keeps_the_redemption(client: Client, make_user: Any, sql: Any) -> None:
    user, spring = make_user(credits=10), make_discount()
    more = {"discount_code": spring.code}
    placed = place(client, user, (make_product().sku, 1), more=more).json
    step(client, user, placed["id"], "pay")
    refused = step(client, user, placed["id"], "cancel")
    assert code(refused) == "INVALID_STATE"
    finance = make_user(roles=("finance",))
    step(client, finance, placed["id"], "refund", reason="Sorry")
    assert redeemed(sql, spring) == 1


def test_staff_cancels_and_it_shows(client: Client, make_user: Any, admin: Any) -> None:
    user = make_user()
    order_id = make_order(user.id)
    assert step(client, admin, order_id, "cancel").json["cancel_reason"] == "by_staff"
    assert order_of(client, user, order_id)["status"] == "cancelled"


def test_an_order_is_delivered_once_while_it_is_paid(
    client: Client, make_user: Any, admin: Any
) -> None:
    user = make_user(credits=10)
    order_id = make_order(user.id)
    assert code(step(client, admin, order_id, "fulfil")) == "INVALID_STATE"
    step(client, user, order_id, "pay")
    step(client, admin, order_id, "refund", amount=1, reason="Late")
    fulfilled = step(client, admin, order_id, "fulfil").json
    assert (fulfilled["status"], fulfilled["fulfilled_at"][-1]) == ("partially_refunded", "Z")
    assert code(step(client, admin, order_id, "fulfil")) == "INVALID_STATE"
    refunded = step(client, admin, order_id, "refund", reason="Lost").json
    assert refunded["fulfilled_at"] == fulfilled["fulfilled_at"]
    late = make_order(make_user(credits=10).id, paid=True)
    step(client, admin, late, "refund", reason="Lost")
    assert code(step(client, admin, late, "fulfil")) == "INVALID_STATE"


def test_what_nobody_pays_runs_out(client: Client, make_user: Any, sql: Any) -> None:
    user, spring = make_user(credits=10), make_discount()
    more = {"discount_code": spring.code}
    placed = place(client, user, (make_product().sku, 1), more=more).json
    paid = make_order(user.id, paid=True)
    cancellation.expire_due()
    assert order_of(client, user, placed["id"])["status"] == "placed"
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=24, seconds=1), tick=False):
        assert cancellation.expire_due() >= 1
    found = order_of(client, user, placed["id"])
    assert (found["status"], found["cancel_reason"]) == ("cancelled", "expired")
    assert redeemed(sql, spring) == 0
    assert order_of(client, user, paid)["status"] == "paid"
    (actor,) = sql(
        "SELECT actor_kind FROM audit_events WHERE action = 'orders.order.cancelled'"
        " AND subject_id = :id",
        id=placed["id"],
    )
    assert tuple(actor) == ("system",)


def test_lists_hold_what_one_may_see(client: Client, make_user: Any) -> None:
    user, other = make_user(credits=10), make_user()
    first, second = make_order(user.id, paid=True), make_order(user.id)
    foreign = make_order(other.id)

    def ids(who: Any, **query: Any) -> list[str]:
        answer = client.get(ORDERS, token=who.token, query_string=query)
        assert answer.status_code == 200
        return [item["id"] for item in answer.json["items"]]

    assert ids(user) == [str(second), str(first)]
    assert ids(user, status="paid") == [str(first)]
    assert ids(user, user_id=str(other.id)) == []
    created = order_of(client, user, first)["created_at"]
    assert ids(user, created_after=created) == [str(second)]
    support = make_user(roles=("support",))
    assert ids(support, user_id=str(other.id)) == [str(foreign)]
    page = client.get(ORDERS, token=user.token, query_string={"per_page": 1}).json
    assert [item["id"] for item in page["items"]] == [str(second)]
    assert ids(user, per_page=1, cursor=page["next_cursor"]) == [str(first)]


def test_one_that_is_known_already_is_not_sent_again(client: Client, make_user: Any) -> None:
    user = make_user()
    path = f"{ORDERS}/{make_order(user.id)}"
    tag = client.get(path, token=user.token).headers["ETag"]
    again = client.get(path, token=user.token, headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")


def exported(client: Client, who: Any, **query: Any) -> list[dict[str, str]]:
    answer = client.get(f"{ORDERS}/export.csv", token=who.token, query_string=query)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="orders.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_a_file_has_a_line_for_each_order(
    client: Client, make_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pages of two: the file goes over their borders.
    monkeypatch.setattr("app.orders.order_queries.PAGE", 2)
    user = make_user(credits=10)
    orders = [make_order(user.id, paid=number == 0) for number in range(5)]
    make_order(make_user().id)
    lines = exported(client, user)
    assert [line["id"] for line in lines] == [str(each) for each in reversed(orders)]
    shown = order_of(client, user, orders[0])
    for name in ("status", "user_id", "created_at", "expires_at", "paid_at"):
        assert lines[-1][name] == shown[name]
    assert (lines[-1]["total"], lines[-1]["cancelled_at"]) == ("10", "")
    assert lines[-1]["items"] == f"1 x Test Product ({shown['items'][0]['sku']})"
    assert [line["id"] for line in exported(client, user, status="paid")] == [str(orders[0])]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t-1", " =1"])
def test_what_a_spreadsheet_would_run_is_made_harmless(text: str) -> None:
    assert spreadsheet.harmless(text).lstrip(" ").startswith("'")
    assert spreadsheet.harmless(text).replace("'", "") == text
    order = dict.fromkeys(spreadsheet.COLUMNS) | {"items": [], "discount_code": text}
    written = b"".join(spreadsheet.lines([order])).decode()
    (line,) = csv.DictReader(io.StringIO(written, newline=""))
    assert line["discount_code"] == spreadsheet.harmless(text)


@pytest.mark.parametrize("parted_at", [";", "; ", "\t", "\r\n", ",", ", "])
def test_what_would_run_where_cells_are_parted_otherwise_is_made_harmless(parted_at: str) -> None:
    assert spreadsheet.harmless(f"Tea{parted_at}=1+1") == f"Tea{parted_at}'=1+1"
    assert spreadsheet.harmless(f"Tea{parted_at}2-1=1") == f"Tea{parted_at}2-1=1"


def test_a_file_that_can_not_be_read_is_refused_before_it_begins(
    settings: Settings, make_user: Any
) -> None:
    actor = Actor(kind="user", user_id=make_user().id)
    away = replace(settings, database_url="postgresql+psycopg2://x:y@127.0.0.1:1/none")
    with pool_on(away, instead_of=settings), pytest.raises(Unavailable):
        order_queries.stream(actor=actor)


def test_one_that_can_not_be_cancelled_keeps_no_other_from_running_out(
    client: Client, make_user: Any, sql: Any
) -> None:
    user, spring = make_user(), make_discount()
    more = {"discount_code": spring.code}
    first = place(client, user, (make_product().sku, 1), more=more).json["id"]
    second = make_order(user.id)
    sql("UPDATE discounts SET redeemed = 0 WHERE id = :id", id=spring.id)
    tomorrow = datetime.now(UTC) + timedelta(hours=25)
    with time_machine.travel(tomorrow, tick=False), pytest.raises(IntegrityError):
        cancellation.expire_due()
    statuses = [order_of(client, user, each)["status"] for each in (first, second)]
    assert statuses == ["placed", "cancelled"]
    sql("UPDATE discounts SET redeemed = 1 WHERE id = :id", id=spring.id)


def test_giving_up_several_orders_and_the_end_of_one_do_not_wait_for_each_other(
    client: Client, make_user: Any, sql: Any
) -> None:
    user, spring, sku = make_user(), make_discount(), make_product().sku
    more = {"discount_code": spring.code}
    placed = sorted(place(client, user, (sku, 1), more=more).json["id"] for _ in range(2))
    owner = Actor(kind="user", user_id=user.id)

    def leave() -> None:
        with transaction() as session:
            cancellation.cancel_all(session, actor=owner, user_id=user.id)

    with ThreadPoolExecutor(1) as threads:
        with transaction() as session:
            order_steps.hold(session, UUID(placed[1]))
            left = threads.submit(leave)
            wait_until_waiting(session.connection(), 1)
            cancellation.cancel(session, actor=owner, order_id=UUID(placed[1]))
        left.result()
    assert {order_of(client, user, each)["status"] for each in placed} == {"cancelled"}
    assert redeemed(sql, spring) == 0


def test_whoever_leaves_has_no_order_that_could_still_be_paid(
    client: Client, make_user: Any, sql: Any
) -> None:
    user, spring = make_user(), make_discount()
    more = {"discount_code": spring.code}
    placed = place(client, user, (make_product().sku, 1), more=more).json
    leave = {"password": user.password, "forfeit": False}
    refused = client.delete("/api/v1/users/me", json=leave, token=user.token)
    assert code(refused) == "ACCOUNT_NOT_SETTLED"
    assert refused.json["error"]["details"] == {"balance": 0, "held": 0, "orders": 1}
    gone = client.delete("/api/v1/users/me", json=leave | {"forfeit": True}, token=user.token)
    assert gone.status_code == 202
    support = make_user(roles=("support",))
    assert order_of(client, support, placed["id"])["status"] == "cancelled"
    assert redeemed(sql, spring) == 0
    assert list(verification.verify()) == []
