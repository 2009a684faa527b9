"""Staff makes credits for users, never for themself."""

from typing import Any
from uuid import UUID

import pytest

from app.credits.values import ISSUANCE_ID
from app.platform import ids
from tests.client import Client, new_key
from tests.people import SET_STATUS

GRANTS = "/api/v1/credits/grants"
BALANCE = "/api/v1/credits/balance"


def give(client: Client, staff: Any, user_id: UUID, amount: Any = 500, **options: Any) -> Any:
    """Grant credits with a new key, unless `key` says otherwise."""
    body = {"user_id": str(user_id), "amount": amount, "memo": "Welcome"}
    options.setdefault("key", new_key())
    return client.post(GRANTS, json=body | options.pop("more", {}), token=staff.token, **options)


def code(answer: Any) -> str:
    """Return the error code of an answer."""
    return str(answer.json["error"]["code"])


def issued(sql: Any) -> int:
    """Return how many credits exist: minus what the issuance account holds, deltas included."""
    return -int(
        sql(
            "SELECT balance + coalesce((SELECT sum(amount) FROM account_deltas"
            " WHERE account_id = accounts.id), 0) FROM accounts WHERE id = :id",
            id=ISSUANCE_ID,
        )[0][0]
    )


@pytest.mark.parametrize("role", ["finance", "admin"])
def test_staff_makes_credits_for_a_user(
    client: Client, make_user: Any, sql: Any, role: str
) -> None:
    staff, user = make_user(roles=(role,)), make_user()
    before = issued(sql)
    answer = give(client, staff, user.id)
    assert answer.status_code == 201
    made = dict(answer.json)
    assert answer.headers["Location"] == f"/api/v1/credits/transfers/{made['id']}"
    assert made.pop("created_at").endswith("Z")
    assert UUID(made.pop("id")).version == 7
    assert made == {
        "kind": "grant",
        "from_user_id": None,
        "to_user_id": str(user.id),
        "amount": 500,
        "memo": "Welcome",
        "reverses_id": None,
        "order_id": None,
    }
    assert client.get(BALANCE, token=user.token).json["balance"] == 500
    assert issued(sql) == before + 500
    house = sql(
        "SELECT seq, amount, balance_after FROM entries WHERE transfer_id = :id AND amount < 0",
        id=answer.json["id"],
    )
    assert [tuple(row) for row in house] == [(None, -500, None)]


def test_a_grant_is_recorded_as_staffs_doing(client: Client, make_user: Any, sql: Any) -> None:
    staff, user = make_user(roles=("finance",)), make_user()
    made = give(client, staff, user.id).json
    (event,) = sql(
        "SELECT actor_id, subject_type, details FROM audit_events"
        " WHERE subject_id = :id AND action = 'credits.grant.created'",
        id=user.id,
    )
    assert tuple(event) == (staff.id, "user", {"transfer_id": made["id"], "amount": 500})


def test_a_repeated_grant_grants_once(client: Client, make_user: Any) -> None:
    staff, user, key = make_user(roles=("finance",)), make_user(), new_key()
    first = give(client, staff, user.id, key=key)
    again = give(client, staff, user.id, key=key)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert client.get(BALANCE, token=user.token).json["balance"] == 500


@pytest.mark.parametrize("roles", [(), ("support",), ("service",)])
def test_whoever_lacks_the_permission_is_refused_before_anything_else(
    client: Client, make_user: Any, roles: tuple[str, ...]
) -> None:
    user = make_user(roles=roles)
    answer = client.post(GRANTS, json={"amount": "all of it"}, token=user.token)
    assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")


@pytest.mark.parametrize("role", ["finance", "admin"])
def test_nobody_grants_to_themself_and_the_attempt_is_recorded(
    client: Client, make_user: Any, sql: Any, role: str
) -> None:
    staff, key = make_user(roles=(role,)), new_key()
    answer = give(client, staff, staff.id, key=key)
    assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
    assert client.get(BALANCE, token=staff.token).json["balance"] == 0
    (event,) = sql(
        "SELECT details FROM audit_events WHERE actor_id = :id AND action = 'auth.access.denied'",
        id=staff.id,
    )
    assert event[0] == {"permission": "credits:grant", "route": GRANTS}
    # Not stored: the key is good for the request that was meant.
    assert give(client, staff, make_user().id, key=key).status_code == 201


def test_nobody_grants_to_a_user_with_more_rights_and_the_attempt_is_recorded(
    client: Client, make_user: Any, sql: Any
) -> None:
    finance, admin, support = (make_user(roles=(role,)) for role in ("finance", "admin", "support"))
    for stronger in (admin, support):
        answer = give(client, finance, stronger.id)
        assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
        assert client.get(BALANCE, token=stronger.token).json["balance"] == 0
    denied = sql(
        "SELECT 1 FROM audit_events WHERE action = 'auth.access.denied' AND actor_id = :id",
        id=finance.id,
    )
    assert len(denied) == 2
    for other in (finance, support, make_user(roles=("service",))):
        assert give(client, admin, other.id).status_code == 201


@pytest.mark.parametrize("nobody", [ids.new(), ISSUANCE_ID])
def test_nobody_and_house_accounts_cannot_be_granted_to(
    client: Client, make_user: Any, nobody: UUID
) -> None:
    answer = give(client, make_user(roles=("finance",)), nobody)
    assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")


@pytest.mark.parametrize("status", ["deleting", "erased"])
def test_a_user_who_is_going_cannot_be_granted_to(
    client: Client, make_user: Any, sql: Any, status: str
) -> None:
    user = make_user()
    sql(SET_STATUS, status=status, id=user.id)
    answer = give(client, make_user(roles=("finance",)), user.id)
    assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")


def test_a_grant_cannot_overfill_an_account(client: Client, make_user: Any) -> None:
    staff, user = make_user(roles=("finance",)), make_user(credits=1)
    assert code(give(client, staff, user.id, 2**53 - 1)) == "BALANCE_LIMIT"
    assert give(client, staff, user.id, 2**53 - 2).status_code == 201
    answer = give(client, staff, user.id, 1)
    assert (answer.status_code, code(answer)) == (409, "BALANCE_LIMIT")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": 2**53}, "amount"),
        ({"amount": 1.0}, "amount"),
        ({"memo": ""}, "memo"),
        ({"memo": "x" * 501}, "memo"),
        ({"memo": None}, "memo"),
        ({"user_id": "me"}, "user_id"),
        ({"to_user_id": str(ids.new())}, "to_user_id"),
    ],
)
def test_a_grant_that_breaks_the_contract_is_refused(
    client: Client, make_user: Any, more: dict[str, object], field: str
) -> None:
    answer = give(client, make_user(roles=("finance",)), make_user().id, more=more)
    assert (answer.status_code, code(answer)) == (422, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {field}


def test_a_grant_needs_a_memo_and_a_key(client: Client, make_user: Any) -> None:
    staff, body = make_user(roles=("finance",)), {"user_id": str(make_user().id), "amount": 5}
    answer = client.post(GRANTS, json=body, token=staff.token, key=new_key())
    assert set(answer.json["error"]["details"]) == {"memo"}
    answer = give(client, staff, make_user().id, key=None)
    assert (answer.status_code, code(answer)) == (400, "IDEMPOTENCY_KEY_REQUIRED")
