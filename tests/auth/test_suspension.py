"""Suspension: out everywhere at once, in again by itself or by staff, and who may do it to whom."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import time_machine
from sqlalchemy import Row

from app.platform import clock
from tests.auth.refreshing import login, outcome
from tests.client import Client, new_key
from tests.people import SET_STATUS, TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
USERS = "/api/v1/users"
ME = "/api/v1/users/me"
REASON = "Chargebacks on three orders"


def suspend(client: Client, staff: TestUser, user_id: UUID, **options: Any) -> Any:
    """Suspend a user for REASON; `more` goes into the body."""
    body = {"reason": REASON} | options.pop("more", {})
    return client.post(f"{USERS}/{user_id}/suspend", token=staff.token, json=body, **options)


def reinstate(client: Client, staff: TestUser, user_id: UUID, **options: Any) -> Any:
    """End a user's suspension."""
    return client.post(f"{USERS}/{user_id}/reinstate", token=staff.token, **options)


def in_minutes(minutes: int) -> str:
    """Return a time from now on, as requests have it."""
    return (clock.now() + timedelta(minutes=minutes)).isoformat()


def events(sql: Sql, user_id: UUID) -> list[tuple[str, Any, Any]]:
    """Return what staff did to a user: action, details, the personal part without addresses."""
    rows = sql(
        "SELECT action, details, data FROM audit_events e"
        " LEFT JOIN audit_personal p ON p.event_id = e.id"
        " WHERE e.subject_id = :id AND actor_id <> :id ORDER BY e.created_at, e.id",
        id=user_id,
    )
    found = []
    for action, details, data in rows:
        personal = orjson.loads(bytes(data)) if data else {}
        found.append(
            (action, details, {"reason": personal["reason"]} if "reason" in personal else {})
        )
    return found


def test_a_suspended_user_is_out_everywhere_at_once(
    client: Client, make_user: MakeUser, support: TestUser, sql: Sql
) -> None:
    user = make_user()
    others = login(client, user).json
    answer = suspend(client, support, user.id)
    assert (answer.status_code, answer.json["status"]) == (200, "suspended")
    assert answer.headers["ETag"] == '"2"'
    assert answer.json == client.get(f"{USERS}/{user.id}", token=support.token).json
    for token in (user.token, others["access_token"]):
        assert outcome(client.get(ME, token=token)) == (401, "UNAUTHENTICATED")
    for token in (user.refresh_token, others["refresh_token"]):
        again = client.post("/api/v1/auth/refresh", json={"refresh_token": token})
        assert outcome(again) == (401, "SESSION_REVOKED")
    assert outcome(login(client, user)) == (403, "USER_SUSPENDED")
    # Without the password nobody learns of it.
    assert outcome(login(client, user, "wrong")) == (401, "INVALID_CREDENTIALS")
    assert events(sql, user.id) == [
        ("auth.user.suspended", {"until": None}, {"reason": REASON}),
        ("auth.session.ended", {"reason": "suspended", "count": 2}, {}),
    ]


def test_a_suspension_ends_by_itself_and_counts_as_over_everywhere(
    client: Client, make_user: MakeUser, support: TestUser
) -> None:
    user = make_user()
    until = clock.now() + timedelta(minutes=10)
    assert suspend(client, support, user.id, more={"until": until.isoformat()}).status_code == 200
    staff_url = f"{USERS}/{user.id}"

    def looked_for(status: str) -> list[str]:
        query = {"status": status, "ids": f"{user.id}"}
        listed = client.get(USERS, token=support.token, query_string=query)
        return [found["status"] for found in listed.json["items"]]

    with time_machine.travel(until - timedelta(seconds=1), tick=False):
        assert outcome(login(client, user)) == (403, "USER_SUSPENDED")
        shown = client.get(staff_url, token=support.token)
        assert (shown.json["status"], shown.headers["ETag"]) == ("suspended", '"2"')
        assert (looked_for("suspended"), looked_for("active")) == (["suspended"], [])
    with time_machine.travel(until, tick=False):
        tokens = login(client, user)
        assert tokens.status_code == 200
        shown = client.get(
            staff_url, token=support.token, headers={"If-None-Match": shown.headers["ETag"]}
        )
        assert (shown.status_code, shown.json["status"]) == (200, "active")
        own = client.get(ME, token=tokens.json["access_token"])
        assert (own.json, own.headers["ETag"]) == (shown.json, shown.headers["ETag"])
        assert (looked_for("suspended"), looked_for("active")) == ([], ["active"])
        # The old login sessions have ended for good.
        assert client.get(ME, token=user.token).status_code == 401
        assert outcome(reinstate(client, support, user.id)) == (409, "INVALID_STATE")
        # And whoever is suspended again has another version than before.
        again = suspend(client, support, user.id)
        assert (again.status_code, again.headers["ETag"]) == (200, '"4"')
        assert client.get(ME, token=tokens.json["access_token"]).status_code == 401


def test_a_new_suspension_takes_the_place_of_the_old_one(
    client: Client, make_user: MakeUser, support: TestUser, sql: Sql
) -> None:
    user = make_user()
    first = in_minutes(10)
    assert suspend(client, support, user.id, more={"until": first}).status_code == 200
    again = suspend(client, support, user.id, more={"reason": "Worse than thought"})
    assert (again.status_code, again.headers["ETag"]) == (200, '"3"')
    with time_machine.travel(clock.now() + timedelta(days=99)):
        assert outcome(login(client, user)) == (403, "USER_SUSPENDED")
    assert events(sql, user.id) == [
        ("auth.user.suspended", {"until": first}, {"reason": REASON}),
        ("auth.session.ended", {"reason": "suspended", "count": 1}, {}),
        ("auth.user.suspended", {"until": None}, {"reason": "Worse than thought"}),
    ]


def test_a_reinstated_user_signs_in_again(
    client: Client, make_user: MakeUser, support: TestUser, sql: Sql
) -> None:
    user = make_user()
    assert outcome(reinstate(client, support, user.id)) == (409, "INVALID_STATE")
    assert suspend(client, support, user.id, more={"until": in_minutes(10)}).status_code == 200
    answer = reinstate(client, support, user.id)
    assert (answer.status_code, answer.json["status"]) == (200, "active")
    assert answer.headers["ETag"] == '"3"'
    assert login(client, user).status_code == 200
    assert client.get(ME, token=user.token).status_code == 401
    assert events(sql, user.id)[-1] == ("auth.user.reinstated", {}, {})


def test_who_is_going_keeps_their_state_and_who_is_gone_is_not_there(
    client: Client, make_user: MakeUser, support: TestUser, sql: Sql
) -> None:
    user = make_user()
    sql(SET_STATUS, status="deleting", id=user.id)
    assert outcome(suspend(client, support, user.id)) == (409, "INVALID_STATE")
    assert outcome(reinstate(client, support, user.id)) == (409, "INVALID_STATE")
    sql(SET_STATUS, status="erased", id=user.id)
    for user_id in (user.id, uuid4()):
        for more in ({}, {"until": "yesterday"}):
            answer = suspend(client, support, user_id, more=more)
            assert outcome(answer) == (404, "NOT_FOUND")
        assert outcome(reinstate(client, support, user_id)) == (404, "NOT_FOUND")


def test_nobody_suspends_themself_or_somebody_stronger(
    client: Client, make_user: MakeUser, support: TestUser, admin: TestUser, sql: Sql
) -> None:
    finance = make_user(roles=("finance",))
    for user in (finance, admin, support):
        assert outcome(suspend(client, support, user.id)) == (403, "FORBIDDEN")
        assert client.get(ME, token=user.token).status_code == 200
    assert outcome(suspend(client, admin, admin.id)) == (403, "FORBIDDEN")
    assert suspend(client, admin, finance.id).status_code == 200
    assert outcome(reinstate(client, support, finance.id)) == (403, "FORBIDDEN")
    assert suspend(client, support, make_user(roles=("support",)).id).status_code == 200
    denied = sql(
        "SELECT details ->> 'route' FROM audit_events"
        " WHERE action = 'auth.access.denied' AND actor_id = :id ORDER BY created_at, id",
        id=support.id,
    )
    route = "/api/v1/users/<uuid:user_id>"
    assert [row[0] for row in denied] == [f"{route}/suspend"] * 3 + [f"{route}/reinstate"]


@pytest.mark.parametrize("role", ["user", "finance", "service"])
def test_suspending_takes_a_permission(client: Client, make_user: MakeUser, role: str) -> None:
    staff, user = make_user(roles={role} - {"user"}), make_user()
    assert outcome(suspend(client, staff, user.id)) == (403, "FORBIDDEN")
    assert outcome(reinstate(client, staff, user.id)) == (403, "FORBIDDEN")
    assert client.get(ME, token=user.token).status_code == 200


def test_the_audit_trail_shows_staff_the_reason(
    client: Client, support: TestUser, make_user: MakeUser
) -> None:
    user = make_user()
    assert suspend(client, support, user.id).status_code == 200
    query = {"subject_id": str(user.id), "action": "auth.user.suspended"}
    listed = client.get("/api/v1/audit/events", token=support.token, query_string=query)
    assert [event["details"] for event in listed.json["items"]] == [
        {"until": None, "reason": REASON}
    ]


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": None}, "reason"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2999-01-01T00:00:00"}, "until"),
        ({"until": "9999-12-31T23:59:59-12:00"}, "until"),
        ({"until": "0001-01-01T00:00:00+12:00"}, "until"),
        ({"until": 4102444800}, "until"),
        ({"for": "ever"}, "for"),
    ],
)
def test_a_suspension_that_breaks_the_contract_is_refused(
    client: Client, make_user: MakeUser, support: TestUser, more: dict[str, Any], field: str
) -> None:
    user = make_user()
    answer = suspend(client, support, user.id, more=more)
    assert outcome(answer) == (422, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {field}
    assert client.get(ME, token=user.token).status_code == 200


def test_a_suspension_needs_a_reason(
    client: Client, make_user: MakeUser, support: TestUser
) -> None:
    url = f"{USERS}/{make_user().id}/suspend"
    assert outcome(client.post(url, token=support.token)) == (422, "VALIDATION_ERROR")


def test_a_key_makes_suspending_repeatable(
    client: Client, make_user: MakeUser, support: TestUser
) -> None:
    """Also after its time, when the same request without a key would be refused."""
    user, key = make_user(), new_key()
    more = {"until": in_minutes(1)}
    first = suspend(client, support, user.id, more=more, key=key)
    with time_machine.travel(clock.now() + timedelta(minutes=2)):
        assert outcome(suspend(client, support, user.id, more=more)) == (422, "VALIDATION_ERROR")
        again = suspend(client, support, user.id, more=more, key=key)
        assert (again.status_code, again.data) == (200, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert login(client, user).status_code == 200
