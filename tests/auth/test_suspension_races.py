"""Suspending a user at the same time as they sign in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row, text

from app.users import passwords
from tests.auth.refreshing import login, outcome
from tests.client import Client
from tests.people import TestUser
from tests.tracing import unfollowed
from tests.watching import transaction_of_another, wait_until_somebody_waits_for

pytestmark = unfollowed

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]


def suspend(client: Client, staff: TestUser, user_id: UUID) -> Any:
    url = f"/api/v1/users/{user_id}/suspend"
    return client.post(url, token=staff.token, json={"reason": "Chargebacks on three orders"})


def live(sql: Sql, user_id: UUID) -> int:
    """Return how many login sessions of a user haven't ended."""
    rows = sql("SELECT FROM login_sessions WHERE user_id = :id AND ended_at IS NULL", id=user_id)
    return len(rows)


@pytest.mark.parametrize("outdated", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_no_login_session_begins_beside_a_suspension(
    client: Client,
    make_user: MakeUser,
    owner_engine: Engine,
    sql: Sql,
    outdated: bool,
    before: bool,
) -> None:
    """The login has read the user before, as active or with a suspension that is over.

    Seen failing while the login looked at the hash alone, or at the hash and the status.
    """
    user = make_user()
    if outdated:
        older = passwords._context.using(argon2__time_cost=2).hash(user.password)
        sql("UPDATE users SET password_hash = :hash WHERE id = :id", hash=older, id=user.id)
    if before:
        sql(
            "UPDATE users SET status = 'suspended', suspended_until = now() WHERE id = :id",
            id=user.id,
        )
    sql(
        "UPDATE login_sessions SET ended_at = now(), ended_reason = 'logout' WHERE user_id = :id",
        id=user.id,
    )
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(
                text(
                    "UPDATE users SET status = 'suspended', suspended_until = NULL WHERE id = :id"
                ),
                {"id": user.id},
            )
            signing_in = thread.submit(login, client, user)
            wait_until_somebody_waits_for(connection)
        assert outcome(signing_in.result(10)) == (403, "USER_SUSPENDED")
    assert live(sql, user.id) == 0


def test_a_suspension_waits_for_a_login_and_ends_what_it_began(
    client: Client, make_user: MakeUser, support: TestUser, owner_engine: Engine, sql: Sql
) -> None:
    """A login holds the row until its login session is there."""
    user = make_user()
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(text("SELECT FROM users WHERE id = :id FOR SHARE"), {"id": user.id})
            suspending = thread.submit(suspend, client, support, user.id)
            wait_until_somebody_waits_for(connection)
            connection.execute(
                text(
                    "INSERT INTO login_sessions (id, user_id, generation, salt, created_at,"
                    " last_used_at, expires_at) VALUES (gen_random_uuid(), :id, 1,"
                    " decode(repeat('00', 16), 'hex'), now(), now(), now() + interval '1 day')"
                ),
                {"id": user.id},
            )
        assert suspending.result(10).status_code == 200
    assert live(sql, user.id) == 0


def test_logins_beside_suspensions_leave_nobody_signed_in(
    client: Client, make_user: MakeUser, support: TestUser, sql: Sql
) -> None:
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            user = make_user()
            logins = [threads.submit(login, client, user) for _ in range(3)]
            assert suspend(client, support, user.id).status_code == 200
            assert {one.result(10).status_code for one in logins} <= {200, 403}
            assert live(sql, user.id) == 0
