"""Books that don't add up, looked at twice, are frozen until an operator says otherwise."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from app.credits import holding, keeping, ledger, state
from app.credits.errors import AlreadyFrozen, LedgerFrozen
from app.credits.state import LedgerState
from app.credits.values import TransferKind
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.settings import Settings
from tests import people
from tests.client import Client, new_key
from tests.commands import command
from tests.credits.plain_sql import change
from tests.credits.sending import available, code, send
from tests.orders.buying import ORDERS, order_of
from tests.people import TestUser
from tests.shop import make_order

MakeUser = Callable[..., TestUser]
SYSTEM = Actor(kind="system")
EVENTS = text(
    "SELECT action, actor_kind, subject_type, details, data FROM audit_events"
    " LEFT JOIN audit_personal ON event_id = id WHERE subject_type = 'ledger'"
    " ORDER BY audit_events.created_at"
)


def events() -> list[Any]:
    with reading() as connection:
        return list(connection.execute(EVENTS))


@pytest.fixture
def frozen(empty_database: Settings) -> Settings:
    """A database whose ledger an operator has frozen."""
    keeping.freeze(actor=Actor(kind="cli"), reason="Looking into something")
    return empty_database


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """A function that returns the log's lines since the last time."""
    return lambda: [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")
    ]


def test_right_books_are_noted_as_such_and_stay_open(
    empty_database: Settings, make_user: MakeUser
) -> None:
    make_user(credits=5)
    before = clock.now()
    assert state.read() == LedgerState(
        frozen_at=None, frozen_reason=None, checked_at=None, check_seconds=None, differences=None
    )
    assert keeping.check() == 0
    after = state.read()
    assert (after.frozen_at, after.differences, events()) == (None, 0, [])
    assert after.checked_at is not None
    assert after.check_seconds is not None
    assert before <= after.checked_at <= clock.now()
    assert 0 < after.check_seconds < 10


def test_books_that_differ_twice_are_frozen_with_the_first_differences(
    empty_database: Settings, make_user: MakeUser, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    ada = make_user(credits=5)
    change(empty_database, ada.id, by=1)
    lines()
    assert keeping.check() == 3
    now = state.read()
    reason = (
        "All accounts together hold 1 credits instead of 0."
        f" Account {ada.id} (user) holds 6, but its entries add up to 5."
        f" Account {ada.id} has a balance of 6, but its last entry says 5."
    )
    assert (now.frozen_reason, now.differences) == (reason, 3)
    assert now.frozen_at is not None
    (said,) = [line for line in lines() if line["event"] == "ledger_frozen"]
    assert (said["level"], said["differences"], said["first"]) == ("error", 3, reason)
    ((*what, details, personal),) = events()
    assert what == ["credits.ledger.frozen", "system", "ledger"]
    assert (details, personal) == ({"differences": 3, "reason": reason}, None)

    # It is said once, and the first reason stays.
    change(empty_database, ada.id, by=1)
    assert keeping.check() == 3
    assert (state.read().frozen_at, state.read().frozen_reason) == (now.frozen_at, reason)
    assert len(events()) == 1
    assert "ledger_frozen" not in {line["event"] for line in lines()}


def test_a_reason_has_room_for_a_few_differences_only(
    empty_database: Settings, make_user: MakeUser
) -> None:
    for _ in range(6):
        change(empty_database, make_user(credits=5).id, by=1)
    assert keeping.check() == 13
    reason = state.read().frozen_reason
    assert reason is not None
    assert reason.count("Account ") == 2
    assert len(reason) <= 500


@pytest.fixture
def repaired(empty_database: Settings) -> Iterator[Callable[[Any], None]]:
    """A function that has an account repaired as soon as somebody has looked at it once."""
    looked: list[Any] = []
    broken: list[Any] = []

    def repair(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "REPEATABLE READ READ ONLY" in statement:
            looked.append(statement)
            if len(looked) == 2:
                change(empty_database, broken[0], by=-1)

    event.listen(Engine, "before_cursor_execute", repair)
    yield broken.append
    event.remove(Engine, "before_cursor_execute", repair)
    assert len(looked) == 2


def test_a_difference_that_is_gone_at_the_second_look_freezes_nothing(
    empty_database: Settings,
    make_user: MakeUser,
    repaired: Callable[[Any], None],
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    ada = make_user(credits=5)
    change(empty_database, ada.id, by=1)
    repaired(ada.id)
    assert keeping.check() == 0
    assert (state.read().frozen_at, state.read().differences, events()) == (None, 0, [])
    (said,) = [line for line in lines() if line["event"] == "ledger_differs"]
    assert (said["level"], said["differences"]) == ("warning", 3)


def test_while_it_is_frozen_nothing_moves_credits_and_everything_else_goes_on(
    empty_database: Settings, client: Client, make_user: MakeUser
) -> None:
    ada, bob, finance = make_user(credits=100), make_user(), make_user(roles=("finance",))
    server = people.make_api_key(make_user(roles=("service",)), "credits:charge")
    keeping.freeze(actor=SYSTEM, reason="For a test")
    body = {"user_id": str(ada.id), "amount": 5, "memo": "For a test"}
    refused = [
        send(client, ada, bob.id),
        send(client, ada, bob.id, query_string={"dry_run": "true"}),
        client.post("/api/v1/credits/charges", json=body, token=server, key=new_key()),
        client.post("/api/v1/credits/grants", json=body, token=finance.token, key=new_key()),
    ]
    assert {(one.status_code, code(one)) for one in refused} == {(503, "LEDGER_FROZEN")}
    assert {one.headers["Retry-After"] for one in refused} == {"1"}

    assert available(client, ada) == 100
    assert client.get("/api/v1/credits/entries", token=ada.token).status_code == 200
    assert client.get("/ready").status_code == 200
    new = {"email": "new@example.org", "name": "New", "password": people.PASSWORD}
    assert client.post("/api/v1/users", json=new).status_code == 201


@pytest.mark.usefixtures("empty_database")
def test_no_way_into_the_books_is_open_while_they_are_frozen(make_user: MakeUser) -> None:
    ada = make_user(credits=100)
    with transaction() as session:
        placed = holding.place(
            session,
            hold_id=ids.new(),
            user_id=ada.id,
            amount=5,
            actor=Actor(kind="user", user_id=ada.id),
            memo=None,
            expires_at=clock.now() + timedelta(days=1),
        )
    keeping.freeze(actor=SYSTEM, reason="For a test")
    sent = ledger.Sent(transfer_id=ids.new(), to_user_id=make_user().id, amount=5, memo=None)
    forfeit: dict[str, Any] = {"kind": TransferKind.FORFEIT, "amount": 5, "memo": None}
    ways: list[Callable[[Any], Any]] = [
        lambda session: ledger.post(
            session,
            transfer_id=ids.new(),
            from_user_id=ada.id,
            to_user_id=None,
            actor=SYSTEM,
            **forfeit,
        ),
        lambda session: ledger.post_batch(session, from_user_id=ada.id, sent=[sent], actor=SYSTEM),
        lambda session: holding.place(
            session,
            hold_id=ids.new(),
            user_id=ada.id,
            amount=5,
            actor=SYSTEM,
            memo=None,
            expires_at=clock.now() + timedelta(days=1),
        ),
        lambda session: holding.capture(
            session, hold_id=placed.id, amount=None, transfer_id=ids.new(), actor=SYSTEM
        ),
        lambda session: holding.release(session, hold_id=placed.id),
    ]
    for way in ways:
        with pytest.raises(LedgerFrozen), transaction() as session:
            way(session)


def test_a_key_is_as_good_as_new_after_a_freeze(
    frozen: Settings, client: Client, make_user: MakeUser
) -> None:
    keeping.unfreeze(actor=SYSTEM)
    ada, bob, key = make_user(credits=100), make_user(), new_key()
    keeping.freeze(actor=SYSTEM, reason="Again")
    assert code(send(client, ada, bob.id, key=key)) == "LEDGER_FROZEN"
    keeping.unfreeze(actor=SYSTEM)
    answer = send(client, ada, bob.id, key=key)
    assert (answer.status_code, "Idempotent-Replayed" in answer.headers) == (201, False)
    assert available(client, bob) == 30


@pytest.mark.parametrize("name", ["pay", "refund"])
def test_an_order_is_neither_paid_nor_refunded_and_stays_as_it_is(
    empty_database: Settings, client: Client, make_user: MakeUser, name: str
) -> None:
    buyer, finance, key = make_user(credits=100), make_user(roles=("finance",)), new_key()
    order_id = make_order(buyer.id, paid=name == "refund")
    before = order_of(client, buyer, order_id)
    body, token = ({}, buyer.token) if name == "pay" else ({"reason": "Sorry"}, finance.token)

    def ask() -> Any:
        path = f"{ORDERS}/{order_id}/{name}"
        return client.post(path, json=body, token=token, key=key)

    keeping.freeze(actor=SYSTEM, reason="For a test")
    refused = ask()
    assert (refused.status_code, code(refused)) == (503, "LEDGER_FROZEN")
    assert order_of(client, buyer, order_id) == before
    keeping.unfreeze(actor=SYSTEM)
    answer = ask()
    assert (answer.status_code, "Idempotent-Replayed" in answer.headers) == (200, False)
    assert answer.json["status"] == {"pay": "paid", "refund": "refunded"}[name]
    assert available(client, buyer) == {"pay": 90, "refund": 100}[name]


def test_an_operator_freezes_and_unfreezes_and_is_told_what_was(empty_database: Settings) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        ended = command(empty_database, "credits", *arguments)
        said = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
        return ended.returncode, ended.stdout + "\n".join(said)

    assert run("unfreeze") == (1, "Error: The ledger isn't frozen.")
    assert run("freeze", "--reason", " ")[0] == 1
    assert run("freeze", "--reason", " A leak ") == (0, "The ledger is frozen.\n")
    with pytest.raises(AlreadyFrozen):
        keeping.freeze(actor=SYSTEM, reason="Twice")
    ended, said = run("unfreeze")
    first, last = said.splitlines()
    assert (ended, first.split(": ")[1], last) == (0, "A leak", "The ledger is open again.")
    assert [one[:3] for one in events()] == [
        ("credits.ledger.frozen", "cli", "ledger"),
        ("credits.ledger.unfrozen", "cli", "ledger"),
    ]
    # What people write is kept apart, and erased in time.
    assert [one.details for one in events()] == [{}, {}]
    assert json.loads(bytes(events()[0].data)) == {"reason": "A leak"}


def test_an_operator_is_told_of_differences_that_are_left(
    empty_database: Settings, make_user: MakeUser
) -> None:
    ada = make_user(credits=5)
    change(empty_database, ada.id, by=1)
    assert keeping.check() == 3
    said = command(empty_database, "credits", "unfreeze").stdout
    assert str(ada.id) in said
    assert "The last check found 3 differences. It is frozen again for new ones only." in said
    assert state.read().frozen_at is None
    assert [(one.action, one.details) for one in events()][1:] == [
        ("credits.ledger.unfrozen", {"differences": 3})
    ]
