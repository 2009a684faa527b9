"""API keys that are made, rotated and used at the same time as something else happens."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text
from werkzeug.test import TestResponse

from app.auth import api_key_queries
from app.auth.values import API_KEYS_MOST
from app.platform import clock
from tests import people
from tests.auth.refreshing import outcome
from tests.client import Client, new_key
from tests.limiting import later
from tests.people import TestUser
from tests.racing import ROUNDS, at_once
from tests.tracing import unfollowed
from tests.watching import (
    transaction_of_another,
    wait_until_somebody_waits_for,
    wait_until_waiting,
)

pytestmark = unfollowed

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
API_KEYS = "/api/v1/api-keys"
ME = "/api/v1/users/me"


def test_of_many_made_at_once_no_more_are_made_than_there_may_be(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    """Seen failing without the lock on the owner's row: there were more."""
    for _ in range(ROUNDS):
        owner = make_user()
        for _ in range(API_KEYS_MOST - 3):
            people.make_api_key(owner, "self:read")
        body = {"name": "A", "scopes": ["self:read"]}

        def make(_: int, token: str = owner.token, body: Any = body) -> int:
            return client.post(API_KEYS, json=body, token=token).status_code

        assert sorted(at_once(make, 16)) == [201] * 3 + [409] * 13
        ((number,),) = sql("SELECT count(*) FROM api_keys WHERE user_id = :id", id=owner.id)
        assert number == API_KEYS_MOST


@pytest.mark.parametrize("doing", ["make", "rotate"])
def test_whoever_is_signed_out_meanwhile_gets_no_key(
    client: Client, make_user: MakeUser, owner_engine: Engine, sql: Sql, doing: str
) -> None:
    """Seen failing without the second look under the lock: there was a new text."""
    owner = make_user()
    key = people.make_api_key(owner, "self:read")
    body: dict[str, Any] = {"name": "A", "scopes": ["self:read"]}
    url = API_KEYS
    if doing == "rotate":
        ((key_id,),) = sql("SELECT id FROM api_keys WHERE user_id = :id", id=owner.id)
        url, body = f"{API_KEYS}/{key_id}/rotate", {"overlap_seconds": 0}
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            # As a suspension and a change of password do: the user's row, then login sessions.
            connection.execute(
                text("SELECT 1 FROM users WHERE id = :id FOR NO KEY UPDATE"), {"id": owner.id}
            )
            asked = thread.submit(client.post, url, json=body, token=owner.token)
            wait_until_waiting(connection, 1)
            connection.execute(
                text(
                    "UPDATE login_sessions SET ended_at = :now, ended_reason = 'credential'"
                    " WHERE user_id = :id"
                ),
                {"id": owner.id, "now": clock.now()},
            )
        assert asked.result(timeout=5).status_code == 401
    assert client.get(ME, token=key).status_code == 200
    ((number,),) = sql("SELECT count(*) FROM api_keys WHERE user_id = :id", id=owner.id)
    assert number == 1


def test_a_twin_of_a_running_deletion_is_told_to_come_back(
    client: Client, make_user: MakeUser, owner_engine: Engine
) -> None:
    owner, idempotency_key = make_user(), new_key()
    key_id = people.id_of_key(people.make_api_key(owner, "self:read"))

    def delete() -> TestResponse:
        url = f"{API_KEYS}/{key_id}"
        return client.delete(url, token=owner.token, key=idempotency_key)

    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(
                text("SELECT 1 FROM api_keys WHERE id = :id FOR UPDATE"), {"id": key_id}
            )
            first = thread.submit(delete)
            wait_until_somebody_waits_for(connection)
            assert outcome(delete()) == (409, "IDEMPOTENCY_IN_PROGRESS")
        assert first.result(timeout=5).status_code == 204


def test_of_many_uses_at_once_one_is_written(
    client: Client, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing without the condition in the statement: more than one was written."""
    key, written = people.make_api_key(make_user(), "self:read"), []
    send = api_key_queries.first_row

    def watched(statement: str, parameters: Any) -> Any:
        row = send(statement, parameters)
        if statement.startswith("\nUPDATE") and row is not None:
            written.append(row)
        return row

    monkeypatch.setattr(api_key_queries, "first_row", watched)
    for minute in range(ROUNDS):
        with later(60 * minute):
            statuses = at_once(lambda _: client.get(ME, token=key).status_code, 16)
            assert statuses == [200] * 16
        assert len(written) == minute + 1
