"""A real server that breaks in the middle of everything says nothing of anybody's secrets."""

from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app import create_app
from app.platform.settings import Settings
from tests import canaries, people
from tests.database import variables
from tests.people import PASSWORD
from tests.sentry_receiver import receiving
from tests.server.serving import serving, wait_until
from tests.server.visiting import Visitor

NEW_PASSWORD = "another-Passphrase-of-mine"
# Statements about these tables fail as those of a faulty release do: an error of ours, not a
# passing fault. Each is read or written by another step.
TABLES = ("api_keys", "audit_events", "audit_personal", "login_sessions", "users")


@pytest.fixture
def own_app(empty_database: Settings) -> Flask:
    """The application on that database, in this process."""
    return create_app(empty_database)


def test_no_secret_gets_out_when_any_step_of_signing_in_fails(
    empty_database: Settings, own_app: Flask, tmp_path: Path
) -> None:
    user = people.make_user(own_app)
    key = people.make_api_key(user, "self:read")
    url = f"/api/v1/api-keys/{people.id_of_key(key)}"
    owner = create_engine(
        empty_database.database_migration_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    given = variables(empty_database) | {
        "APP_AUTH_ISSUER": empty_database.auth_issuer,
        "APP_LOG_LEVEL": "debug",
    }
    with (
        receiving() as sentry,
        owner.connect() as connection,
        serving(tmp_path, app=None, APP_SENTRY_DSN=sentry.dsn, **given) as server,
    ):
        visitor = Visitor(server.port)
        body = {"email": user.email, "password": PASSWORD, "transport": "cookie"}
        signed_in = visitor.post("/api/v1/auth/login", body)
        assert signed_in.status == 200
        cookies = [value.partition(";")[0] for value in signed_in.headers.get_all("Set-Cookie", [])]
        canaries.watch(*(cookie.partition("=")[2] for cookie in cookies))
        browser = {"Cookie": "; ".join(cookies), "X-CSRF-Token": signed_in.json["csrf_token"]}
        statuses = []
        for table in TABLES:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO gone"))
            for path, sent, headers in (
                ("/login", {"email": user.email, "password": PASSWORD}, {}),
                ("/login", {"email": user.email, "password": "wrong-Passphrase"}, {}),
                ("/refresh", {"refresh_token": user.refresh_token}, {}),
                ("/refresh", {}, browser),
                ("/logout", {"refresh_token": user.refresh_token}, {}),
                ("/logout", {}, browser),
            ):
                answer = visitor.post(f"/api/v1/auth{path}", sent, headers=headers)
                statuses.append(answer.status)
            change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
            register = {"email": "new@example.org", "name": "New", "password": NEW_PASSWORD}
            for method, path, sent, token in (
                ("PUT", "/api/v1/users/me/password", change, user.token),
                ("POST", "/api/v1/users", register, None),
                ("POST", "/api/v1/api-keys", {"name": "A", "scopes": ["self:read"]}, user.token),
                ("POST", f"{url}/rotate", {}, user.token),
                ("GET", "/api/v1/users/me", None, key),
                ("GET", "/api/v1/users/me/security-log", None, key),
                ("GET", "/api/v1/audit/events", None, key),
            ):
                answer = visitor.request(method, path, body=sent, token=token)
                statuses.append(answer.status)
            connection.execute(text(f"ALTER TABLE gone RENAME TO {table}"))
        metrics = visitor.get("/metrics").body
        visitor.close()
        broken = statuses.count(500)
        wait_until(lambda: len(sentry.events()) >= broken)
        heard = [server.text().encode(), metrics, *sentry.bodies]
    assert broken > 2 * len(TABLES)
    assert b'"level":"debug"' in heard[0]
    canaries.hear("the metrics", metrics)
    secrets = [*canaries.noted(), user.email]
    assert [leak for said in heard for leak in canaries.found(said, secrets)] == []
