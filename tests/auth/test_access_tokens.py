"""Access tokens: how long they are good, and what is believed from them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any
from uuid import uuid4

import jwt
import pytest
import time_machine
from flask import Flask
from flask_jwt_extended import jwt_required
from sqlalchemy import Row

from app.auth import routes, tokens
from app.keys import service as keys
from app.keys.service import RELOAD_SECONDS, KeyRing
from app.platform import clock
from app.platform.errors import Unauthenticated
from app.platform.settings import Settings
from tests.auth.forging import claiming, parts, unsigned
from tests.client import Client
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
ME = "/api/v1/users/me"


def test_a_token_ends_to_the_second_also_when_it_is_remembered(
    client: Client, make_user: MakeUser, settings: Settings
) -> None:
    token = make_user().token
    end = parts(token)[1]["exp"]
    for remembered in (token, claiming(token, jti="another")):
        with time_machine.travel(end - 1, tick=False):
            assert client.get(ME, token=remembered).status_code == 200
        with time_machine.travel(end, tick=False):
            assert client.get(ME, token=remembered).status_code == 401
            assert client.get(ME, token=claiming(token, jti="new")).status_code == 401


def test_a_token_from_a_machine_that_is_a_little_ahead_is_good(
    client: Client, make_user: MakeUser
) -> None:
    token = make_user().token
    assert client.get(ME, token=claiming(token, iat=int(clock.time()) + 8)).status_code == 200
    assert client.get(ME, token=claiming(token, iat=int(clock.time()) + 60)).status_code == 401


def test_roles_in_the_token_decide_nothing(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user = make_user()
    assert (
        client.get("/api/v1/users", token=claiming(user.token, roles=["admin"])).status_code == 403
    )
    sql("UPDATE users SET roles = ARRAY['support'] WHERE id = :id", id=user.id)
    assert client.get("/api/v1/users", token=user.token).status_code == 200
    sql("UPDATE users SET roles = '{}' WHERE id = :id", id=user.id)
    assert client.get("/api/v1/users", token=user.token).status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE login_sessions SET ended_at = created_at, ended_reason = 'reuse'"
        " WHERE user_id = :id",
        "UPDATE login_sessions SET expires_at = created_at WHERE user_id = :id",
        "UPDATE users SET status = 'suspended' WHERE id = :id",
        "UPDATE users SET status = 'deleting', deleting_since = created_at WHERE id = :id",
    ],
)
def test_a_token_dies_with_its_login_session_or_user_on_the_next_request(
    client: Client, make_user: MakeUser, sql: Sql, change: str
) -> None:
    user = make_user()
    assert client.get(ME, token=user.token).status_code == 200
    sql(change, id=user.id)
    assert client.get(ME, token=user.token).status_code == 401


def test_logout_ends_the_login_session_on_the_next_request(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    body = {"email": user.email, "password": user.password}
    issued = client.post("/api/v1/auth/login", json=body).json
    answer = client.post("/api/v1/auth/logout", token=issued["access_token"])
    assert (answer.status_code, answer.data) == (204, b"")
    for _ in range(2):
        assert client.get(ME, token=issued["access_token"]).status_code == 401
        again = client.post("/api/v1/auth/logout", token=issued["access_token"])
        assert again.status_code == 401
    refreshed = client.post("/api/v1/auth/refresh", json={"refresh_token": issued["refresh_token"]})
    assert refreshed.json["error"]["code"] == "SESSION_REVOKED"
    assert client.get(ME, token=user.token).status_code == 200
    ((event,),) = sql(
        "SELECT to_jsonb(e) FROM audit_events e"
        " WHERE subject_id = :id AND action = 'auth.session.ended'",
        id=user.id,
    )
    assert event["details"] == {"session_id": issued["session_id"], "reason": "logout"}
    assert event["actor_id"] == str(user.id)


def test_many_logouts_together_end_the_login_session_once(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user, together = make_user(), Barrier(8)

    def log_out(_number: int) -> int:
        together.wait()
        return int(client.post("/api/v1/auth/logout", token=user.token).status_code)

    with ThreadPoolExecutor(8) as threads:
        statuses = set(threads.map(log_out, range(8)))
    assert 204 in statuses
    assert statuses <= {204, 401}
    ended = "SELECT 1 FROM audit_events WHERE actor_id = :id AND action = 'auth.session.ended'"
    assert len(sql(ended, id=user.id)) == 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> tokens.VerifiedTokens:
    """An empty memory of verified tokens."""
    fresh = tokens.VerifiedTokens()
    monkeypatch.setattr(tokens, "verified", fresh)
    return fresh


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures are verified."""
    seen: list[str] = []
    real = tokens.decode

    def watched(token: str) -> tokens.Claims:
        seen.append(token)
        return real(token)

    monkeypatch.setattr(tokens, "decode", watched)
    return seen


def test_each_signature_is_verified_once(
    client: Client, make_user: MakeUser, memory: object, decoded: list[str]
) -> None:
    user = make_user()
    for _ in range(3):
        assert client.get(ME, token=user.token).status_code == 200
    assert decoded == [user.token]
    for _ in range(2):
        assert client.get(ME, token=user.token[:-4] + "AAAA").status_code == 401
    assert len(decoded) == 3


def test_the_memory_is_bounded_and_forgets_the_oldest(
    client: Client,
    make_user: MakeUser,
    memory: object,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "MOST_REMEMBERED", 3)
    users = [make_user().token for _ in range(4)]
    for token in (*users, users[3], users[1], users[0]):
        assert client.get(ME, token=token).status_code == 200
    assert decoded == [*users, users[0]]


def test_a_revoked_key_takes_its_remembered_tokens_with_it(
    client: Client, make_user: MakeUser, sql: Sql, settings: Settings
) -> None:
    token = make_user().token
    assert client.get(ME, token=token).status_code == 200
    kid = parts(token)[0]["kid"]
    sql("UPDATE signing_keys SET state = 'revoked' WHERE id = CAST(:id AS uuid)", id=kid)
    try:
        with time_machine.travel(clock.time() + RELOAD_SECONDS + 1, tick=False):
            assert client.get(ME, token=token).status_code == 401
            new = make_user().token
            assert parts(new)[0]["kid"] != kid
            assert client.get(ME, token=new).status_code == 200
    finally:
        sql("DELETE FROM signing_keys WHERE state = 'active'")
        sql("UPDATE signing_keys SET state = 'active' WHERE id = CAST(:id AS uuid)", id=kid)


def test_with_a_shared_secret_tokens_are_signed_and_verified_without_kid(
    settings: Settings, app: Flask, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    shared = replace(settings, auth_jwt_algorithm="HS256", auth_jwt_secret="s" * 40)
    monkeypatch.setattr(keys, "_ring", KeyRing(shared))
    monkeypatch.setattr(tokens, "verified", tokens.VerifiedTokens())
    other = Flask("other")
    routes.install(other, shared)
    with other.app_context():
        token = tokens.issue_access_token(
            user_id=user.id, session_id=uuid4(), generation=1, roles=frozenset({"user"})
        )
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
        assert tokens.verified.claims(token).user_id == user.id
        for foreign in (user.token, unsigned(token), token[:-4] + "AAAA"):
            with pytest.raises(Unauthenticated):
                tokens.verified.claims(foreign)


def test_a_view_that_asks_flask_jwt_extended_itself_refuses_alike(settings: Settings) -> None:
    other = Flask("other")
    routes.install(other, settings)

    @other.get("/")
    @jwt_required()
    def view() -> str:
        return "never"

    client, environ = other.test_client(), {"bursar.request_id": "r"}
    for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Bearer"}):
        answer = client.get("/", headers=headers, environ_overrides=environ)
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
