"""Signs in and uses tokens as a client does, and looks into the row of their login session."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from tests.client import Client
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
Tokens = dict[str, Any]
LOGIN = "/api/v1/auth/login"
REFRESH = "/api/v1/auth/refresh"
ME = "/api/v1/users/me"


def login(client: Client, user: TestUser, password: str | None = None, **options: Any) -> Any:
    """Try to begin another login session of a user; `more` goes into the body."""
    body = {"email": user.email, "password": password or user.password}
    return client.post(LOGIN, json=body | options.pop("more", {}), **options)


def sign_in(client: Client, user: TestUser, **options: Any) -> Tokens:
    """Begin another login session of a user, and return its tokens."""
    answer = login(client, user, **options)
    assert answer.status_code == 200, answer.json
    tokens: Tokens = answer.json
    return tokens


def refresh(client: Client, tokens: Tokens) -> Any:
    return client.post(REFRESH, json={"refresh_token": tokens["refresh_token"]})


def renewed(client: Client, tokens: Tokens) -> Tokens:
    answer = refresh(client, tokens)
    assert answer.status_code == 200, answer.json
    body: Tokens = answer.json
    return body


def use(client: Client, tokens: Tokens) -> int:
    status: int = client.get(ME, token=tokens["access_token"]).status_code
    return status


def stored(sql: Sql, tokens: Tokens) -> dict[str, Any]:
    ((row,),) = sql(
        "SELECT to_jsonb(s) FROM login_sessions s WHERE id = :id", id=tokens["session_id"]
    )
    found: dict[str, Any] = row
    return found


def outcome(answer: Any) -> tuple[int, str | None]:
    """Return status and code of a refusal; what has no body has no code."""
    return answer.status_code, answer.json and answer.json["error"]["code"]


def assert_refused(answer: Any, code: str) -> None:
    assert (answer.status_code, answer.json["error"]["code"]) == (401, code)
    assert answer.headers["Cache-Control"] == "no-store"
