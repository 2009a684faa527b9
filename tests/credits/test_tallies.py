"""What was committed is counted and told of, by kind; what wasn't is not."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app import create_app
from app.credits import holding, keeping, ledger
from app.platform import clock, ids, metrics
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.settings import Settings
from tests import people
from tests.client import Client, new_key
from tests.credits.plain_sql import change
from tests.credits.sending import send
from tests.people import TestUser

MakeUser = Callable[..., TestUser]
SYSTEM = Actor(kind="system")
# Other tests have moved so much in this process that a float tells no small amounts apart.
LOT = 1 << 20


def numbers() -> dict[str, float]:
    """Return the metrics of this process that are about transfers."""
    lines = metrics.exposition().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line.startswith(("transfers_", "credits_"))]
    # The library adds when each was made.
    return {name: float(value) for name, value in pairs if "_created" not in name}


@pytest.fixture
def counted() -> Callable[[], dict[str, float]]:
    """A function that returns what was counted since the test began, without zeros."""
    before = numbers()
    return lambda: {
        name: value - before.get(name, 0)
        for name, value in numbers().items()
        if value != before.get(name, 0)
    }


def of(kind: str, transfers: int, credits: int) -> dict[str, float]:
    return {
        f'transfers_total{{kind="{kind}"}}': transfers,
        f'credits_moved_total{{kind="{kind}"}}': credits * LOT,
    }


def test_transfers_and_their_credits_are_counted_by_kind(
    client: Client, make_user: MakeUser, counted: Callable[[], dict[str, float]]
) -> None:
    ada, bob = make_user(credits=100 * LOT), make_user(credits=7 * LOT)
    server = people.make_api_key(make_user(roles=("service",)), "credits:charge")
    for _ in range(2):
        assert send(client, ada, bob.id, 30 * LOT).status_code == 201
    body = {"user_id": str(ada.id), "amount": 4 * LOT, "memo": "For a test"}
    charged = client.post("/api/v1/credits/charges", json=body, token=server, key=new_key())
    assert charged.status_code == 201
    assert counted() == of("grant", 2, 107) | of("transfer", 2, 60) | of("charge", 1, 4)


def test_what_is_refused_repeated_or_only_tried_is_not_counted(
    client: Client, make_user: MakeUser, counted: Callable[[], dict[str, float]]
) -> None:
    ada, bob, key = make_user(), make_user(credits=50 * LOT), new_key()
    assert send(client, ada, bob.id, 30 * LOT).status_code == 402
    assert send(client, bob, ada.id, 30 * LOT, query_string="dry_run=true").status_code == 200
    for _ in range(3):
        assert send(client, bob, ada.id, 30 * LOT, key=key).status_code == 201
    with pytest.raises(KeyError):
        send_some_and_fail(bob, ada)
    assert counted() == of("grant", 1, 50) | of("transfer", 1, 30)


def send_some(session: Any, sender: TestUser, to: TestUser) -> list[ledger.Transfer]:
    sent = [
        ledger.Sent(transfer_id=ids.new(), to_user_id=to.id, amount=amount * LOT, memo=None)
        for amount in (1, 2, 3)
    ]
    return ledger.post_batch(session, from_user_id=sender.id, sent=sent, actor=SYSTEM)


def send_some_and_fail(sender: TestUser, to: TestUser) -> None:
    with transaction() as session:
        send_some(session, sender, to)
        raise KeyError


def test_a_batch_counts_as_its_transfers_and_a_captured_hold_as_a_charge(
    make_user: MakeUser, counted: Callable[[], dict[str, float]]
) -> None:
    ada, bob = make_user(credits=100 * LOT), make_user()
    hold_id = ids.new()
    with transaction() as session:
        send_some(session, ada, bob)
    with transaction() as session:
        holding.place(
            session,
            hold_id=hold_id,
            user_id=ada.id,
            amount=20 * LOT,
            actor=Actor(kind="user", user_id=ada.id),
            memo=None,
            expires_at=clock.now() + timedelta(days=1),
        )
    assert counted() == of("grant", 1, 100) | of("transfer", 3, 6)
    with transaction() as session:
        holding.capture(
            session, hold_id=hold_id, amount=15 * LOT, transfer_id=ids.new(), actor=SYSTEM
        )
    assert counted() == of("grant", 1, 100) | of("transfer", 3, 6) | of("charge", 1, 15)


def test_a_line_in_the_log_tells_of_each_transfer_and_of_nobody(
    client: Client, make_user: MakeUser, capfd: pytest.CaptureFixture[str]
) -> None:
    ada, bob = make_user(credits=100 * LOT), make_user()
    capfd.readouterr()
    made = send(client, ada, bob.id, 30, headers={"X-Request-Id": "told-of-1"}).json
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["event"] == "transfer"]
    assert line.keys() == {
        "timestamp", "level", "event", "logger", "request_id", "service", "version",
        "transfer_id", "kind",
    }  # fmt: skip
    assert (line["level"], line["request_id"]) == ("info", "told-of-1")
    assert (line["transfer_id"], line["kind"]) == (made["id"], "transfer")


def test_the_metrics_show_whether_the_books_are_right(
    empty_database: Settings, make_user: MakeUser
) -> None:
    def shown() -> dict[str, float]:
        # Another application: each keeps what it has read for a few seconds.
        text = Client(create_app(empty_database)).get("/metrics").data.decode()
        pairs = [line.split(" ") for line in text.splitlines() if line.startswith("ledger_")]
        return {name: float(value) for name, value in pairs}

    assert shown() == {"ledger_frozen": 0}
    ada = make_user(credits=5)
    begun = clock.now().timestamp()
    keeping.check()
    right = shown()
    assert (right["ledger_frozen"], right["ledger_differences"]) == (0, 0)
    assert begun <= right["ledger_checked_timestamp_seconds"] <= clock.now().timestamp()
    assert 0 < right["ledger_check_duration_seconds"] < 10
    change(empty_database, ada.id, by=1)
    keeping.check()
    wrong = shown()
    assert (wrong["ledger_frozen"], wrong["ledger_differences"]) == (1, 3)
