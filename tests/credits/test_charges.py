"""An app's server takes credits from a user, for the house's revenue."""

from typing import Any
from uuid import UUID

import pytest

from app.credits.values import ISSUANCE_ID, REVENUE_ID
from app.platform import ids
from tests import people
from tests.client import Client, new_key
from tests.credits.sending import available, code
from tests.people import SET_STATUS

CHARGES = "/api/v1/credits/charges"


@pytest.fixture
def server(make_user: Any) -> str:
    """The API key of an app's server."""
    return people.make_api_key(make_user(roles=("service",)), "credits:charge")


def charge(client: Client, token: str, user_id: UUID, amount: Any = 5, **options: Any) -> Any:
    """Charge a user with a new key, unless `key` says otherwise."""
    body = {"user_id": str(user_id), "amount": amount, "memo": "12 pages"}
    options.setdefault("key", new_key())
    return client.post(CHARGES, json=body | options.pop("more", {}), token=token, **options)


def revenue(sql: Any) -> int:
    """Return what revenue holds, deltas included."""
    return int(
        sql(
            "SELECT balance + coalesce((SELECT sum(amount) FROM account_deltas"
            " WHERE account_id = accounts.id), 0) FROM accounts WHERE id = :id",
            id=REVENUE_ID,
        )[0][0]
    )


def test_a_server_takes_credits_from_a_user(
    client: Client, make_user: Any, server: str, sql: Any
) -> None:
    user, before = make_user(credits=100), revenue(sql)
    answer = charge(client, server, user.id)
    assert answer.status_code == 201
    made = dict(answer.json)
    assert answer.headers["Location"] == f"/api/v1/credits/transfers/{made['id']}"
    assert made.pop("created_at").endswith("Z")
    assert UUID(made.pop("id")).version == 7
    assert made == {
        "kind": "charge",
        "from_user_id": str(user.id),
        "to_user_id": None,
        "amount": 5,
        "memo": "12 pages",
        "reverses_id": None,
        "order_id": None,
    }
    assert available(client, user) == 95
    assert revenue(sql) == before + 5
    entry = client.get("/api/v1/credits/entries", token=user.token).json["items"][0]
    assert (entry["kind"], entry["amount"], entry["balance_after"]) == ("charge", -5, 95)
    house = sql(
        "SELECT account_id, seq, amount, balance_after FROM entries"
        " WHERE transfer_id = :id AND amount > 0",
        id=answer.json["id"],
    )
    assert [tuple(row) for row in house] == [(REVENUE_ID, None, 5, None)]
    seen = client.get(answer.headers["Location"], token=user.token)
    assert seen.json == answer.json


def test_a_charge_is_recorded_as_the_servers_doing(
    client: Client, make_user: Any, server: str, sql: Any
) -> None:
    user = make_user(credits=100)
    made = charge(client, server, user.id).json
    (event,) = sql(
        "SELECT actor_kind, subject_type, details FROM audit_events"
        " WHERE subject_id = :id AND action = 'credits.charge.created'",
        id=user.id,
    )
    assert (event.actor_kind, event.subject_type) == ("api_key", "user")
    assert event.details == {
        "transfer_id": made["id"],
        "amount": 5,
        "api_key_id": str(people.id_of_key(server)),
    }
    log = client.get("/api/v1/users/me/security-log", token=user.token).json["items"]
    assert (log[0]["action"], log[0]["by"]) == ("credits.charge.created", "staff")


@pytest.mark.parametrize("role", ["service", "finance", "admin"])
def test_whoever_may_charge_may_also_without_a_key(
    client: Client, make_user: Any, role: str
) -> None:
    staff, user = make_user(roles=(role,)), make_user(credits=5)
    assert charge(client, staff.token, user.id).status_code == 201
    assert available(client, user) == 0


def test_a_repeated_charge_charges_once(client: Client, make_user: Any, server: str) -> None:
    user, key = make_user(credits=100), new_key()
    first = charge(client, server, user.id, key=key)
    again = charge(client, server, user.id, key=key)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert available(client, user) == 95


def test_a_user_cannot_be_charged_more_than_they_hold_and_nobody_is_told_what_that_is(
    client: Client, make_user: Any, server: str, sql: Any
) -> None:
    user, key = make_user(credits=4), new_key()
    answer = charge(client, server, user.id, key=key)
    assert (answer.status_code, code(answer)) == (402, "INSUFFICIENT_CREDITS")
    assert "details" not in answer.json["error"]
    assert available(client, user) == 4
    events = "SELECT 1 FROM audit_events WHERE subject_id = :id AND action LIKE '%charge%'"
    assert sql(events, id=user.id) == []
    # The refusal is final: after a top-up it takes a new key.
    again = charge(client, server, user.id, key=key)
    assert (again.data, again.headers["Idempotent-Replayed"]) == (answer.data, "true")


def test_whoever_charges_themself_is_told_what_they_hold(client: Client, make_user: Any) -> None:
    owner = make_user(roles=("service",), credits=4)
    # It may less than its owner, and acts for them.
    key = people.make_api_key(owner, "credits:charge")
    for token in (owner.token, key):
        answer = charge(client, token, owner.id)
        assert (answer.status_code, code(answer)) == (402, "INSUFFICIENT_CREDITS")
        assert answer.json["error"]["details"] == {"available": 4, "required": 5}
    assert charge(client, key, owner.id, 4).status_code == 201


@pytest.mark.parametrize("nobody", [ids.new(), ISSUANCE_ID, REVENUE_ID])
def test_nobody_and_house_accounts_cannot_be_charged(
    client: Client, server: str, nobody: UUID
) -> None:
    answer = charge(client, server, nobody)
    assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("status", "expected"),
    [("active", 201), ("suspended", 201), ("deleting", 404), ("erased", 404)],
)
def test_a_user_is_charged_unless_they_are_going(
    client: Client, make_user: Any, server: str, sql: Any, status: str, expected: int
) -> None:
    user = make_user(credits=100)
    sql(SET_STATUS, status=status, id=user.id)
    assert charge(client, server, user.id).status_code == expected


@pytest.mark.parametrize("roles", [(), ("support",)])
def test_whoever_lacks_the_permission_is_refused_before_anything_else(
    client: Client, make_user: Any, roles: tuple[str, ...]
) -> None:
    user = make_user(roles=roles)
    answer = client.post(CHARGES, json={"amount": "all of it"}, token=user.token)
    assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")


def test_nobody_charges_a_user_with_more_rights_and_the_attempt_is_recorded(
    client: Client, make_user: Any, server: str, sql: Any
) -> None:
    for role in ("support", "finance", "service", "admin"):
        stronger = make_user(roles=(role,), credits=100)
        answer = charge(client, server, stronger.id)
        assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
        assert available(client, stronger) == 100
    denied = sql(
        "SELECT details FROM audit_events WHERE action = 'auth.access.denied'"
        " AND details ->> 'api_key_id' = :id",
        id=str(people.id_of_key(server)),
    )
    assert len(denied) == 4
    assert {event.details["permission"] for event in denied} == {"credits:charge"}


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": 2**53}, "amount"),
        ({"amount": 1.0}, "amount"),
        ({"amount": "5"}, "amount"),
        ({"memo": ""}, "memo"),
        ({"memo": "x" * 501}, "memo"),
        ({"memo": None}, "memo"),
        ({"user_id": "me"}, "user_id"),
        ({"from_user_id": str(ids.new())}, "from_user_id"),
    ],
)
def test_a_charge_that_breaks_the_contract_is_refused(
    client: Client, make_user: Any, server: str, more: dict[str, object], field: str
) -> None:
    answer = charge(client, server, make_user(credits=10).id, more=more)
    assert (answer.status_code, code(answer)) == (422, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {field}


def test_a_charge_needs_a_key(client: Client, make_user: Any, server: str) -> None:
    answer = charge(client, server, make_user().id, key=None)
    assert (answer.status_code, code(answer)) == (400, "IDEMPOTENCY_KEY_REQUIRED")
