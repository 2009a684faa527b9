"""Login sessions: seen by their user and by staff, ended one by one or together."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from flask import Flask
from sqlalchemy import Row

from app.auth.values import IDLE
from app.platform import clock
from tests.auth.browsing import Page, deletes
from tests.auth.refreshing import assert_refused, outcome, refresh, renewed, sign_in, use
from tests.client import Client, new_key
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
OWN = "/api/v1/users/me/sessions"
LOGOUT_ALL = "/api/v1/auth/logout-all"
ME = "/api/v1/users/me"
ADDRESS = "192.0.2.7"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1"
)


def on(device: str) -> dict[str, Any]:
    """Return what a request has that comes from a device."""
    return {"headers": {"User-Agent": device}, "environ_overrides": {"REMOTE_ADDR": ADDRESS}}


def staff_url(user_id: UUID) -> str:
    return f"/api/v1/users/{user_id}/sessions"


def listed(client: Client, url: str, *, token: str, **query: Any) -> Any:
    """Return a page of login sessions."""
    answer = client.get(url, token=token, query_string=query)
    assert answer.status_code == 200, answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.json


def is_good(client: Client, token: str) -> bool:
    return client.get(ME, token=token).status_code == 200


def ended(sql: Sql, user_id: UUID) -> list[tuple[Any, Any]]:
    """Return who ended login sessions of a user, and what is known about it."""
    events = sql(
        "SELECT actor_id, details FROM audit_events"
        " WHERE subject_id = :id AND action = 'auth.session.ended' ORDER BY created_at, id",
        id=user_id,
    )
    return [(event.actor_id, event.details) for event in events]


def test_a_user_sees_where_they_are_signed_in(client: Client, make_user: MakeUser) -> None:
    user, stranger = make_user(), make_user()
    phone = sign_in(client, user, **on(IPHONE))
    laptop = sign_in(client, user, **on(FIREFOX))
    sign_in(client, stranger)
    page = listed(client, OWN, token=phone["access_token"])
    assert page["next_cursor"] is None
    newest, middle, oldest = page["items"]
    created_at = newest.pop("created_at")
    assert newest.pop("last_used_at") == created_at
    assert created_at.endswith("Z")
    assert newest == {
        "id": laptop["session_id"],
        "device": "Firefox on Windows",
        "address": ADDRESS,
        "current": False,
    }
    assert (middle["id"], middle["device"], middle["current"]) == (
        phone["session_id"],
        "Safari on iPhone",
        True,
    )
    # Begun without a request, which had a device and an address.
    assert (oldest["id"], oldest["device"], oldest["address"]) == (
        str(user.session_id),
        None,
        None,
    )


def test_refreshing_is_use_and_stays_the_same_login_session(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    laptop = sign_in(client, user)
    with time_machine.travel(clock.now() + timedelta(days=1), tick=False):
        laptop = renewed(client, laptop)
        first = listed(client, OWN, token=laptop["access_token"])["items"][0]
        assert first["id"] == laptop["session_id"]
        assert first["last_used_at"] == clock.now().isoformat().replace("+00:00", "Z")
        assert first["created_at"] < first["last_used_at"]


def test_login_sessions_that_are_over_are_not_listed(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    for tokens in (sign_in(client, user), sign_in(client, user)):
        assert client.post("/api/v1/auth/logout", token=tokens["access_token"]).status_code == 204
    assert len(listed(client, OWN, token=user.token)["items"]) == 1
    with time_machine.travel(clock.now() + IDLE + timedelta(seconds=1), tick=False):
        new = sign_in(client, user)
        items = listed(client, OWN, token=new["access_token"])["items"]
        assert [item["id"] for item in items] == [new["session_id"]]


def test_the_list_is_walked_page_by_page(client: Client, make_user: MakeUser) -> None:
    user, stranger = make_user(), make_user()
    newest_first = [sign_in(client, user)["session_id"] for _ in range(4)][::-1]
    newest_first.append(str(user.session_id))
    found: list[str] = []
    page = listed(client, OWN, token=user.token, per_page=2)
    first_cursor = page["next_cursor"]
    while True:
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        page = listed(client, OWN, token=user.token, per_page=2, cursor=page["next_cursor"])
    assert found == newest_first
    second = listed(client, OWN, token=user.token, per_page=2, page=2)
    assert [item["id"] for item in second["items"]] == newest_first[2:4]
    lent = client.get(OWN, token=stranger.token, query_string={"cursor": first_cursor})
    assert outcome(lent) == (422, "VALIDATION_ERROR")


def test_a_cursor_belongs_to_one_users_list(client: Client, make_user: MakeUser) -> None:
    support, user, other = make_user(roles=("support",)), make_user(), make_user()
    sign_in(client, user)
    page = listed(client, staff_url(user.id), token=support.token, per_page=1)
    query = {"per_page": 1, "cursor": page["next_cursor"]}
    answer = client.get(staff_url(other.id), token=support.token, query_string=query)
    assert outcome(answer) == (422, "VALIDATION_ERROR")


def test_ending_one_counts_on_its_next_request(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    lost, kept = sign_in(client, user), sign_in(client, user)
    answer = client.delete(f"{OWN}/{lost['session_id']}", token=kept["access_token"])
    assert (answer.status_code, answer.data) == (204, b"")
    assert (use(client, lost), use(client, kept)) == (401, 200)
    assert_refused(refresh(client, lost), "SESSION_REVOKED")
    assert renewed(client, kept)
    assert is_good(client, user.token)
    details = {"session_id": lost["session_id"], "reason": "ended"}
    assert ended(sql, user.id) == [(user.id, details)]


def test_the_current_one_can_be_ended_as_well(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    assert client.delete(f"{OWN}/{user.session_id}", token=user.token).status_code == 204
    assert not is_good(client, user.token)


def test_another_users_login_session_answers_like_one_that_does_not_exist(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    user, stranger = make_user(), make_user()
    bodies: list[dict[str, Any]] = [{}, {"json": {}}, {"json": {"unknown": 1}}, {"data": b"{"}]
    for token in (stranger.token, admin.token):
        for body in bodies:
            answers = [
                client.delete(f"{OWN}/{session_id}", token=token, **body)
                for session_id in (user.session_id, uuid4())
            ]
            seen = [
                (
                    answer.status_code,
                    answer.data.replace(answer.headers["X-Request-Id"].encode(), b""),
                    {name for name, _ in answer.headers},
                )
                for answer in answers
            ]
            assert seen[0] == seen[1]
            assert seen[0][0] == 404
    assert is_good(client, user.token)


def test_one_that_is_over_cannot_be_ended(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user = make_user()
    gone, expired = sign_in(client, user), sign_in(client, user)
    url = f"{OWN}/{gone['session_id']}"
    assert client.delete(url, token=user.token).status_code == 204
    assert outcome(client.delete(url, token=user.token)) == (404, "NOT_FOUND")
    sql(
        "UPDATE login_sessions SET expires_at = created_at WHERE id = :id",
        id=expired["session_id"],
    )
    url = f"{OWN}/{expired['session_id']}"
    assert outcome(client.delete(url, token=user.token)) == (404, "NOT_FOUND")
    assert len(ended(sql, user.id)) == 1


def test_ending_all_others_leaves_the_one_that_asks(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user, stranger = make_user(), make_user()
    lost, kept = sign_in(client, user), sign_in(client, user)
    answer = client.delete(OWN, token=kept["access_token"])
    assert (answer.status_code, answer.data) == (204, b"")
    assert (use(client, lost), use(client, kept)) == (401, 200)
    assert not is_good(client, user.token)
    assert_refused(refresh(client, lost), "SESSION_REVOKED")
    assert renewed(client, kept)
    assert is_good(client, stranger.token)
    expected = [(user.id, {"reason": "ended", "count": 2})]
    assert ended(sql, user.id) == expected
    # Nobody is left to be ended, and nothing to be told.
    assert client.delete(OWN, token=kept["access_token"]).status_code == 204
    assert ended(sql, user.id) == expected


def test_signing_out_everywhere_ends_all(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user = make_user()
    phone, laptop = sign_in(client, user), sign_in(client, user)
    answer = client.post(LOGOUT_ALL, token=phone["access_token"])
    assert (answer.status_code, answer.data) == (204, b"")
    assert "Set-Cookie" not in answer.headers
    assert (use(client, phone), use(client, laptop)) == (401, 401)
    for tokens in (phone, laptop):
        assert_refused(refresh(client, tokens), "SESSION_REVOKED")
    assert not is_good(client, user.token)
    assert ended(sql, user.id) == [(user.id, {"reason": "ended", "count": 3})]
    assert use(client, sign_in(client, user)) == 200


def test_signing_out_everywhere_takes_the_cookie_away(app: Flask, make_user: MakeUser) -> None:
    page = Page(Client(app), make_user())
    answer = page.client.post(LOGOUT_ALL, token=page.tokens["access_token"])
    assert answer.status_code == 204
    assert deletes(answer)


def test_a_cookie_alone_signs_nobody_out_everywhere(app: Flask, make_user: MakeUser) -> None:
    page = Page(Client(app), make_user())
    assert outcome(page.post(LOGOUT_ALL)) == (401, "UNAUTHENTICATED")
    assert page.refresh().status_code == 200


def test_staff_sees_and_ends_the_login_sessions_of_a_user(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    support, user = make_user(roles=("support",)), make_user()
    laptop = sign_in(client, user, **on(FIREFOX))
    items = listed(client, staff_url(user.id), token=support.token)["items"]
    assert [(item["id"], item["device"], item["current"]) for item in items] == [
        (laptop["session_id"], "Firefox on Windows", False),
        (str(user.session_id), None, False),
    ]
    answer = client.delete(staff_url(user.id), token=support.token)
    assert (answer.status_code, answer.data) == (204, b"")
    assert use(client, laptop) == 401
    assert_refused(refresh(client, laptop), "SESSION_REVOKED")
    assert not is_good(client, user.token)
    assert listed(client, staff_url(user.id), token=support.token)["items"] == []
    assert ended(sql, user.id) == [(support.id, {"reason": "staff", "count": 2})]
    assert use(client, sign_in(client, user)) == 200


def test_staff_may_end_its_own(client: Client, make_user: MakeUser) -> None:
    support = make_user(roles=("support",))
    (item,) = listed(client, staff_url(support.id), token=support.token)["items"]
    assert item["current"]
    assert client.delete(staff_url(support.id), token=support.token).status_code == 204
    assert not is_good(client, support.token)


def test_nobody_ends_those_of_a_stronger_user(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    support = make_user(roles=("support",))
    answer = client.delete(staff_url(admin.id), token=support.token)
    assert outcome(answer) == (403, "FORBIDDEN")
    assert is_good(client, admin.token)
    denied = sql(
        "SELECT details FROM audit_events WHERE actor_id = :id AND action = 'auth.access.denied'",
        id=support.id,
    )
    assert [event.details for event in denied] == [
        {"permission": "users:suspend", "route": "/api/v1/users/<uuid:user_id>/sessions"}
    ]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_erased_user_is_nobody(
    client: Client, make_user: MakeUser, sql: Sql, method: str
) -> None:
    support, user = make_user(roles=("support",)), make_user()
    sql("UPDATE users SET status = 'erased' WHERE id = :id", id=user.id)
    for nobody in (user.id, uuid4()):
        answer = client.request(method, staff_url(nobody), token=support.token)
        assert outcome(answer) == (404, "NOT_FOUND")


def test_a_key_makes_ending_repeatable(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user, support = make_user(), make_user(roles=("support",))
    lost = sign_in(client, user)
    for token, url in (
        (user.token, f"{OWN}/{lost['session_id']}"),
        (user.token, OWN),
        (support.token, staff_url(user.id)),
    ):
        key = new_key()
        first = client.delete(url, token=token, key=key)
        again = client.delete(url, token=token, key=key)
        assert (first.status_code, again.status_code) == (204, 204)
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
    assert len(ended(sql, user.id)) == 2
    here, there = sign_in(client, user), sign_in(client, user)
    key = new_key()
    assert client.post(LOGOUT_ALL, token=here["access_token"], key=key).status_code == 204
    # Whoever repeats it has to sign in again, and isn't signed out by it.
    back = sign_in(client, user)
    again = client.post(LOGOUT_ALL, token=back["access_token"], key=key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (204, "true")
    assert (use(client, back), use(client, there)) == (200, 401)


@pytest.mark.parametrize(
    "body",
    [
        {"json": {}},
        # Many clients name a type in each request.
        {"content_type": "application/json", "environ_overrides": {"CONTENT_LENGTH": ""}},
    ],
)
def test_an_end_without_fields_takes_an_empty_body_or_none(
    client: Client, make_user: MakeUser, body: dict[str, Any]
) -> None:
    user = make_user()
    assert client.delete(OWN, token=user.token, **body).status_code == 204
    assert client.delete(f"{OWN}/{user.session_id}", token=user.token, **body).status_code == 204
