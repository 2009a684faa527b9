"""Signing out: by access token or refresh token, once or repeated, with a body that is read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.auth.refreshing import sign_in
from tests.client import Client, new_key
from tests.people import TestUser
from tests.watching import transaction_of_another, wait_until_somebody_waits_for

LOGOUT = "/api/v1/auth/logout"
ME = "/api/v1/users/me"
MakeUser = Callable[..., TestUser]


def test_a_refresh_token_signs_out_without_an_access_token(
    client: Client, make_user: MakeUser, sql: Callable[..., Any]
) -> None:
    """For clients whose access token has expired; other login sessions of the user stay."""
    user = make_user()
    tokens = sign_in(client, user)
    answer = client.post(LOGOUT, json={"refresh_token": tokens["refresh_token"]})
    assert (answer.status_code, answer.data) == (204, b"")
    assert client.get(ME, token=tokens["access_token"]).status_code == 401
    assert client.get(ME, token=user.token).status_code == 200
    event = sql(
        "SELECT actor_id, subject_id, details FROM audit_events"
        " WHERE action = 'auth.session.ended' AND subject_id = :id",
        id=user.id,
    )
    assert [(row.actor_id, row.details["session_id"]) for row in event] == [
        (user.id, tokens["session_id"])
    ]
    again = client.post(LOGOUT, json={"refresh_token": tokens["refresh_token"]})
    assert again.status_code == 204


def test_a_refresh_token_that_is_none_of_ours_signs_nobody_out(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    good = sign_in(client, user)["refresh_token"]
    forged = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
    for token in (forged, "x", "A" * 80):
        for access in (None, user.token):
            answer = client.post(LOGOUT, token=access, json={"refresh_token": token})
            assert answer.status_code == 401
            assert answer.json["error"]["code"] == "INVALID_REFRESH_TOKEN"
    assert client.get(ME, token=user.token).status_code == 200


def test_a_bad_access_token_counts_as_none_where_the_body_has_a_proof(
    client: Client, make_user: MakeUser
) -> None:
    """Clients that send it always are still able to sign out after it has run out."""
    tokens = sign_in(client, make_user())
    assert client.post(LOGOUT, token="bad").json["error"]["code"] == "UNAUTHENTICATED"
    answer = client.post(LOGOUT, token="bad", json={"refresh_token": tokens["refresh_token"]})
    assert answer.status_code == 204
    assert client.get(ME, token=tokens["access_token"]).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": b"{", "content_type": "application/json"}, 400),
        ({"json": {"other": 1}}, 422),
        ({"json": {"refresh_token": 1}}, 422),
        ({"data": b"a", "content_type": "text/plain"}, 415),
        ({"data": b" " * 1_048_577, "content_type": "application/json"}, 413),
    ],
)
def test_a_bad_body_signs_nobody_out(
    client: Client, make_user: MakeUser, body: dict[str, Any], status: int
) -> None:
    user = make_user()
    assert client.post(LOGOUT, token=user.token, **body).status_code == status
    assert client.get(ME, token=user.token).status_code == 200


def test_a_key_makes_signing_out_repeatable(client: Client, make_user: MakeUser) -> None:
    """The same key from another login session gets the first answer, and ends nothing."""
    user, key = make_user(), new_key()
    other = sign_in(client, user)["access_token"]
    assert client.post(LOGOUT, token=user.token, key="a b").status_code == 400
    assert client.post(LOGOUT, token=user.token, key=key).status_code == 204
    again = client.post(LOGOUT, token=other, key=key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (204, "true")
    assert client.get(ME, token=other).status_code == 200
    refresh = sign_in(client, user)["refresh_token"]
    reused = client.post(LOGOUT, token=other, key=key, json={"refresh_token": refresh})
    assert reused.json["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_a_twin_of_a_running_logout_is_told_to_come_back(
    app: Flask, client: Client, make_user: MakeUser, owner_engine: Engine
) -> None:
    user, key = make_user(), new_key()

    def sign_out() -> TestResponse:
        return client.post(LOGOUT, token=user.token, key=key)

    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(
                text("SELECT 1 FROM login_sessions WHERE user_id = :id FOR UPDATE"),
                {"id": user.id},
            )
            first = thread.submit(sign_out)
            wait_until_somebody_waits_for(connection)
            twin = sign_out()
            assert twin.json["error"]["code"] == "IDEMPOTENCY_IN_PROGRESS"
        assert first.result().status_code == 204
