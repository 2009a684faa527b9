"""Ending login sessions at the same time as somebody signs in, or ends them as well."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.auth.refreshing import outcome, sign_in, use
from tests.client import Client, new_key
from tests.people import TestUser
from tests.tracing import unfollowed
from tests.watching import (
    transaction_of_another,
    wait_until_somebody_waits_for,
    wait_until_waiting,
)

pytestmark = unfollowed

MakeUser = Callable[..., TestUser]
USERS = "/api/v1/users"
OWN = "/api/v1/users/me/sessions"
LOGOUT_ALL = "/api/v1/auth/logout-all"


@pytest.mark.parametrize("ending", ["others", "everywhere", "staff"])
def test_no_login_that_is_under_way_escapes_the_end_of_all(
    client: Client, make_user: MakeUser, owner_engine: Engine, ending: str
) -> None:
    """Seen failing without the lock on the user's row: the new login session stayed live."""
    user, support = make_user(), make_user(roles=("support",))
    sign_in(client, user)

    def end() -> TestResponse:
        if ending == "staff":
            return client.delete(f"{USERS}/{user.id}/sessions", token=support.token)
        if ending == "others":
            return client.delete(OWN, token=user.token)
        return client.post(LOGOUT_ALL, token=user.token)

    with ThreadPoolExecutor(2) as threads:
        with transaction_of_another(owner_engine) as connection:
            # A login records its event last: its login session is there, and not committed yet.
            connection.execute(text("LOCK TABLE audit_events IN SHARE MODE"))
            signing_in = threads.submit(sign_in, client, user)
            wait_until_waiting(connection, 1)
            answer = threads.submit(end)
            wait_until_waiting(connection, 2)
        assert answer.result().status_code == 204
        assert use(client, signing_in.result()) == 401


def test_of_two_devices_that_end_each_other_one_stays(
    client: Client, make_user: MakeUser, owner_engine: Engine
) -> None:
    """Seen failing without the second look under the lock: both were signed out."""
    user = make_user()
    devices = [sign_in(client, user) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(
                text("SELECT 1 FROM users WHERE id = :id FOR UPDATE"), {"id": user.id}
            )
            answers = [
                threads.submit(client.delete, OWN, token=device["access_token"])
                for device in devices
            ]
            wait_until_waiting(connection, 2)
        statuses = [answer.result().status_code for answer in answers]
    assert sorted(statuses) == [204, 401]
    assert [use(client, device) for device in devices] == [
        200 if status == 204 else 401 for status in statuses
    ]


@pytest.mark.parametrize("ending", ["one", "others", "everywhere", "staff"])
def test_a_twin_of_a_running_end_is_told_to_come_back(
    client: Client, make_user: MakeUser, owner_engine: Engine, ending: str
) -> None:
    user, support, key = make_user(), make_user(roles=("support",)), new_key()
    other = sign_in(client, user)
    method, url, token = {
        "one": ("DELETE", f"{OWN}/{other['session_id']}", user.token),
        "others": ("DELETE", OWN, user.token),
        "everywhere": ("POST", LOGOUT_ALL, user.token),
        "staff": ("DELETE", f"{USERS}/{user.id}/sessions", support.token),
    }[ending]

    def end() -> TestResponse:
        return client.request(method, url, token=token, key=key)

    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            connection.execute(
                text("SELECT 1 FROM login_sessions WHERE user_id = :id FOR UPDATE"),
                {"id": user.id},
            )
            first = thread.submit(end)
            wait_until_somebody_waits_for(connection)
            assert outcome(end()) == (409, "IDEMPOTENCY_IN_PROGRESS")
        assert first.result().status_code == 204
