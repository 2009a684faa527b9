"""Staff takes a transfer back, whole and once."""

from typing import Any

import pytest

from app.credits import verification
from tests.client import Client, new_key
from tests.credits.sending import TRANSFERS, available, code, send
from tests.people import SET_STATUS


@pytest.fixture
def finance(make_user: Any) -> Any:
    """Staff who may reverse."""
    return make_user(roles=("finance",))


def reverse(client: Client, staff: Any, transfer_id: Any, **options: Any) -> Any:
    """Take a transfer back with a new key, unless `key` says otherwise."""
    options.setdefault("key", new_key())
    options.setdefault("json", {"reason": "Sent twice"})
    return client.post(f"{TRANSFERS}/{transfer_id}/reverse", token=staff.token, **options)


def grant(client: Client, staff: Any, user: Any, amount: int = 100) -> Any:
    body = {"user_id": str(user.id), "amount": amount, "memo": "Welcome"}
    return client.post("/api/v1/credits/grants", json=body, token=staff.token, key=new_key()).json


def charge(client: Client, staff: Any, user: Any, amount: int = 30) -> Any:
    body = {"user_id": str(user.id), "amount": amount, "memo": "Pages"}
    return client.post("/api/v1/credits/charges", json=body, token=staff.token, key=new_key()).json


def test_a_transfer_goes_back(client: Client, make_user: Any, finance: Any, sql: Any) -> None:
    ada, bob = make_user(credits=100), make_user()
    made = send(client, ada, bob.id).json
    answer = reverse(client, finance, made["id"])
    assert answer.status_code == 201
    back = answer.json
    assert answer.headers["Location"] == f"{TRANSFERS}/{back['id']}"
    assert back == made | {
        "id": back["id"], "kind": "reversal", "from_user_id": str(bob.id),
        "to_user_id": str(ada.id), "memo": "Sent twice", "reverses_id": made["id"],
        "created_at": back["created_at"],
    }  # fmt: skip
    assert (available(client, ada), available(client, bob)) == (100, 0)
    events = sql(
        "SELECT action, actor_id, details FROM audit_events WHERE subject_id = :id"
        " AND action LIKE '%reversed'",
        id=made["id"],
    )
    recorded = {"reversal_id": back["id"], "amount": 30}
    assert [tuple(row) for row in events] == [("credits.transfer.reversed", finance.id, recorded)]
    assert list(verification.verify()) == []


def test_grants_and_charges_go_back_to_the_house_account_they_came_from(
    client: Client, make_user: Any, finance: Any
) -> None:
    user = make_user()
    granted = grant(client, finance, user)
    charged = charge(client, finance, user)
    assert reverse(client, finance, charged["id"]).json["to_user_id"] == str(user.id)
    assert available(client, user) == 100
    assert reverse(client, finance, granted["id"]).json["from_user_id"] == str(user.id)
    assert available(client, user) == 0
    assert list(verification.verify()) == []


def test_a_transfer_is_reversed_once_and_a_reversal_never(
    client: Client, make_user: Any, finance: Any
) -> None:
    ada, bob = make_user(credits=100), make_user(credits=100)
    made = send(client, ada, bob.id).json
    back = reverse(client, finance, made["id"]).json
    again = reverse(client, finance, made["id"])
    assert (again.status_code, code(again)) == (409, "ALREADY_REVERSED")
    further = reverse(client, finance, back["id"])
    assert (further.status_code, code(further)) == (409, "NOT_REVERSIBLE")
    assert (available(client, ada), available(client, bob)) == (100, 100)


def test_what_is_spent_does_not_come_back(client: Client, make_user: Any, finance: Any) -> None:
    ada, bob, eve = make_user(credits=100), make_user(), make_user()
    made = send(client, ada, bob.id).json
    send(client, bob, eve.id, 1)
    refused = reverse(client, finance, made["id"])
    assert (refused.status_code, code(refused)) == (402, "INSUFFICIENT_CREDITS")
    # What somebody holds is told to nobody else.
    assert "details" not in refused.json["error"]


def test_a_reversal_posts_to_whoever_is_going(
    client: Client, make_user: Any, finance: Any, sql: Any
) -> None:
    ada, bob = make_user(credits=100), make_user()
    made = send(client, ada, bob.id).json
    sql(SET_STATUS, status="deleting", id=ada.id)
    assert reverse(client, finance, made["id"]).status_code == 201
    sql(SET_STATUS, status="active", id=ada.id)
    assert available(client, ada) == 100


def test_nobody_reverses_what_they_sent_or_got(
    client: Client, make_user: Any, finance: Any
) -> None:
    other = make_user(credits=100)
    got = send(client, other, finance.id).json
    sent = send(client, finance, other.id, 5).json
    for made in (got, sent):
        assert code(reverse(client, finance, made["id"])) == "FORBIDDEN"


def test_nobody_reverses_for_or_from_who_may_more(
    client: Client, make_user: Any, finance: Any, admin: Any
) -> None:
    user = make_user(credits=100)
    made = send(client, user, admin.id).json
    assert code(reverse(client, finance, made["id"])) == "FORBIDDEN"
    assert code(reverse(client, admin, made["id"])) == "FORBIDDEN"
    assert reverse(client, make_user(roles=("admin",)), made["id"]).status_code == 201


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 5}])
def test_a_reason_is_asked_for(client: Client, make_user: Any, finance: Any, body: Any) -> None:
    made = send(client, make_user(credits=100), make_user().id).json
    refused = reverse(client, finance, made["id"], json=body)
    assert refused.status_code == 422
    assert list(refused.json["error"]["details"]) == ["reason"]
