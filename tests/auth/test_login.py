"""Signing in: what is answered, what is left behind, and what a stranger can't learn from it."""

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from flask import Flask
from sqlalchemy import Row, text
from sqlalchemy.engine import Engine

from app.keys import master
from app.platform.settings import Settings
from app.users import passwords
from tests.client import Client
from tests.people import SET_STATUS, TestUser
from tests.watching import (
    statements,
    transaction_of_another,
    wait_until_somebody_waits_for,
)

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
LOGIN = "/api/v1/auth/login"
ME = "/api/v1/users/me"


def login(client: Client, email: str, password: str, **options: Any) -> Any:
    return client.post(LOGIN, json={"email": email, "password": password}, **options)


def events(sql: Sql, **where: Any) -> list[dict[str, Any]]:
    conditions = " AND ".join(f"{name} = :{name}" for name in where)
    rows = sql(
        f"SELECT to_jsonb(audit_events) FROM audit_events WHERE {conditions} ORDER BY created_at",
        **where,
    )
    return [row[0] for row in rows]


def test_the_right_password_is_answered_with_tokens(
    client: Client, make_user: MakeUser, settings: Settings
) -> None:
    user = make_user(roles=("support",))
    answer = login(client, user.email, user.password)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json
    assert set(tokens) == {
        "access_token", "token_type", "expires_in", "refresh_token", "session_id", "device_token",
    }  # fmt: skip
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", settings.auth_access_seconds)
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert set(claims) >= {"sub", "sid", "jti", "iat", "exp", "iss", "aud", "roles", "gen", "type"}
    assert claims["sub"] == str(user.id)
    assert claims["sid"] == tokens["session_id"]
    assert claims["exp"] - claims["iat"] == settings.auth_access_seconds
    assert (claims["iss"], claims["aud"]) == (settings.auth_issuer, settings.auth_audience)
    assert (claims["roles"], claims["gen"], claims["type"]) == (["support", "user"], 1, "access")
    header = jwt.get_unverified_header(tokens["access_token"])
    assert (header["alg"], set(header)) == ("EdDSA", {"alg", "kid", "typ"})
    me = client.get(ME, token=tokens["access_token"])
    assert (me.status_code, me.json["id"]) == (200, str(user.id))


def test_a_login_session_and_its_event_are_left_behind(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    answer = login(
        client,
        user.email.upper(),
        user.password,
        headers={"User-Agent": "Difference/1 " + "x" * 500},
        environ_base={"REMOTE_ADDR": "203.0.113.9"},
    )
    session_id = answer.json["session_id"]
    ((stored,),) = sql("SELECT to_jsonb(s) FROM login_sessions s WHERE id = :id", id=session_id)
    assert stored["user_id"] == str(user.id)
    assert (stored["generation"], stored["address"]) == (1, "203.0.113.9")
    assert stored["device"].startswith("Difference/1 xxx")
    assert len(stored["device"]) == 200
    lives = datetime.fromisoformat(stored["expires_at"]) - datetime.fromisoformat(
        stored["created_at"]
    )
    assert lives == timedelta(days=30)
    started = events(sql, subject_id=user.id, action="auth.session.started")[-1]
    assert started["details"] == {"session_id": session_id}
    assert (started["actor_kind"], started["actor_id"]) == ("user", str(user.id))


def test_a_password_is_right_however_the_keyboard_composes_it(client: Client) -> None:
    email = f"{uuid4().hex}@example.com"
    body = {"email": email, "name": "Ada", "password": "cafe\u0301 au lait"}
    assert client.post("/api/v1/users", json=body).status_code == 201
    assert login(client, email, "café au lait").status_code == 200


def test_wrong_password_and_unknown_address_get_the_same_answer(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    same = {"X-Request-Id": "same"}
    answers = [
        login(client, user.email, "wrong", headers=same),
        login(client, f"{uuid4().hex}@example.com", "wrong", headers=same),
        login(client, f"{uuid4().hex}@example.com", user.password, headers=same),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert answers[0].json["error"]["code"] == "INVALID_CREDENTIALS"
    assert len({answer.data for answer in answers}) == 1
    assert len({str(answer.headers) for answer in answers}) == 1


def test_known_and_unknown_addresses_take_the_same_statements_and_hashes(
    client: Client, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    checked: list[str] = []
    context = passwords._context

    class Watched:
        def verify(self, password: str, password_hash: str) -> bool:
            checked.append(password_hash.rsplit("$", 2)[0])
            return context.verify(password, password_hash)

    monkeypatch.setattr(passwords, "_context", Watched())
    with statements() as known:
        login(client, user.email, "wrong")
    with statements() as unknown:
        login(client, f"{uuid4().hex}@example.com", "wrong")
    assert known == unknown
    assert len(known) == 2
    assert len(checked) == 2
    assert checked[0] == checked[1]


def test_failed_logins_are_recorded_and_unknown_addresses_only_as_an_hmac(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user, stranger, request_id = make_user(), f"{uuid4().hex}@example.com", uuid4().hex
    login(client, user.email, "wrong", headers={"X-Request-Id": request_id})
    login(client, stranger.upper(), "wrong", headers={"X-Request-Id": request_id})
    known, unknown = events(sql, request_id=request_id)
    assert known["action"] == unknown["action"] == "auth.login.failed"
    assert (known["subject_id"], known["actor_kind"], known["actor_id"]) == (
        str(user.id),
        "system",
        None,
    )
    assert known["details"] == {"reason": "credentials"}
    assert unknown["subject_id"] is None
    key = master.derive("unknown address")
    assert unknown["details"] == {
        "reason": "credentials",
        "identity": hmac.digest(key, stranger.encode(), "sha256").hex(),
    }


@pytest.mark.parametrize("status", ["suspended", "deleting", "erased"])
def test_only_the_right_password_learns_that_a_user_is_suspended(
    client: Client, make_user: MakeUser, sql: Sql, status: str
) -> None:
    user = make_user()
    sql(SET_STATUS, status=status, id=user.id)
    wrong = login(client, user.email, "wrong")
    assert (wrong.status_code, wrong.json["error"]["code"]) == (401, "INVALID_CREDENTIALS")
    right = login(client, user.email, user.password)
    expected = (403, "USER_SUSPENDED") if status == "suspended" else (401, "INVALID_CREDENTIALS")
    assert (right.status_code, right.json["error"]["code"]) == expected
    reasons = [
        failure["details"]["reason"]
        for failure in events(sql, subject_id=user.id, action="auth.login.failed")
    ]
    assert reasons == ["credentials", "suspended" if status == "suspended" else "credentials"]
    assert client.get(ME, token=user.token).status_code == 401


def test_a_suspension_ends_by_itself(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user = make_user()
    suspend = "UPDATE users SET status = 'suspended', suspended_until = :until WHERE id = :id"
    now = datetime.now(UTC)
    sql(suspend, until=now + timedelta(hours=1), id=user.id)
    assert login(client, user.email, user.password).status_code == 403
    sql(suspend, until=now - timedelta(seconds=1), id=user.id)
    answer = login(client, user.email, user.password)
    assert answer.status_code == 200
    assert client.get(ME, token=answer.json["access_token"]).status_code == 200


def test_a_hash_with_old_parameters_is_renewed_at_login(
    client: Client, make_user: MakeUser, sql: Sql, settings: Settings
) -> None:
    user = make_user()
    older = passwords._context.using(argon2__time_cost=2).hash(user.password)
    sql("UPDATE users SET password_hash = :hash WHERE id = :id", hash=older, id=user.id)
    assert login(client, user.email, user.password).status_code == 200
    ((renewed, version),) = sql(
        "SELECT password_hash, version FROM users WHERE id = :id", id=user.id
    )
    assert renewed.startswith(f"$argon2id$v=19$m={settings.auth_argon2_memory_kib},t=1,p=1$")
    assert version == 1
    assert login(client, user.email, user.password).status_code == 200
    assert login(client, user.email, "wrong").status_code == 401


def test_logins_that_renew_the_hash_at_once_all_succeed(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    """Seen failing without the second look: whoever was not first got 401."""
    user = make_user()
    older = passwords._context.using(argon2__time_cost=2).hash(user.password)
    sql("UPDATE users SET password_hash = :hash WHERE id = :id", hash=older, id=user.id)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda _: login(client, user.email, user.password), range(8))
        assert [answer.status_code for answer in answers] == [200] * 8


@pytest.mark.parametrize("outdated", [False, True])
def test_no_login_session_begins_with_a_password_that_was_changed_meanwhile(
    client: Client,
    app: Flask,
    make_user: MakeUser,
    owner_engine: Engine,
    sql: Sql,
    outdated: bool,
) -> None:
    user = make_user()
    if outdated:
        older = passwords._context.using(argon2__time_cost=2).hash(user.password)
        sql("UPDATE users SET password_hash = :hash WHERE id = :id", hash=older, id=user.id)
    sessions = "SELECT count(*) FROM login_sessions WHERE user_id = :id"
    before = sql(sessions, id=user.id)
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(
                text("UPDATE users SET password_hash = :hash WHERE id = :id"),
                {"hash": passwords.hash_password("another one 1"), "id": user.id},
            )
            signing_in = thread.submit(login, client, user.email, user.password)
            wait_until_somebody_waits_for(connection)
        assert signing_in.result().status_code == 401
    assert sql(sessions, id=user.id) == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "ada@example.com"},
        {"email": "ada", "password": "x"},
        {"email": "ada@example.com", "password": ""},
        {"email": "ada@example.com", "password": "x" * 129},
        {"email": "ada@example.com", "password": 1},
        {"email": "ada@example.com", "password": "x", "transport": "header"},
    ],
)
def test_a_login_of_the_wrong_shape_is_refused(client: Client, body: dict[str, Any]) -> None:
    answer = client.post(LOGIN, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "VALIDATION_ERROR")
