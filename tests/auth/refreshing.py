"""Uses tokens as a client does, and looks at what stands in the row of their login session."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from tests.client import Client

Sql = Callable[..., list[Row[Any]]]
Tokens = dict[str, Any]
REFRESH = "/api/v1/auth/refresh"
ME = "/api/v1/users/me"


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


def assert_refused(answer: Any, code: str) -> None:
    assert (answer.status_code, answer.json["error"]["code"]) == (401, code)
    assert answer.headers["Cache-Control"] == "no-store"
