"""Every try to sign in is counted, by what came of it."""

from collections.abc import Callable
from typing import Any

import pytest

from app.users import passwords
from app.users import service as users
from tests.client import Client
from tests.people import PASSWORD, SET_STATUS, TestUser
from tests.scraped import samples

LOGIN = "/api/v1/auth/login"


@pytest.fixture
def counted() -> Callable[[], dict[str, float]]:
    """A function that returns what was counted since the test began, by outcome."""

    def numbers() -> dict[str, float]:
        return {
            series.split('"')[1]: value
            for series, value in samples().items()
            if series.startswith("logins_total{")
        }

    before = numbers()
    # What hasn't happened yet is there already.
    assert {"SIGNED_IN", "USER_SUSPENDED", "RATE_LIMITED", "OVERLOADED"} <= before.keys()
    return lambda: {
        outcome: value - before.get(outcome, 0)
        for outcome, value in numbers().items()
        if value != before.get(outcome, 0)
    }


def test_logins_are_counted_by_outcome(
    client: Client,
    make_user: Callable[..., TestUser],
    sql: Callable[..., Any],
    counted: Callable[[], dict[str, float]],
) -> None:
    ada = make_user()
    suspended = make_user()
    sql(SET_STATUS, status="suspended", id=suspended.id)

    def sign_in(email: object, password: str = PASSWORD) -> int:
        return client.post(LOGIN, json={"email": email, "password": password}).status_code

    assert [sign_in(ada.email), sign_in(ada.email)] == [200, 200]
    assert [sign_in(ada.email, "wrong"), sign_in("nobody@example.com")] == [401, 401]
    assert sign_in(suspended.email) == 403
    # What can't be a login is none.
    assert sign_in(7) == 422
    # Two more are how the users were made.
    assert counted() == {"SIGNED_IN": 2 + 2, "INVALID_CREDENTIALS": 2, "USER_SUSPENDED": 1}


def test_a_sign_in_that_nobody_could_wait_for_is_refused_before_its_user_is_read(
    client: Client,
    sql: Callable[..., Any],
    counted: Callable[[], dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "_queued", passwords.LONGEST_QUEUE)
    monkeypatch.setattr(users, "find_credentials", None)
    refused = client.post(LOGIN, json={"email": "a@example.com", "password": PASSWORD})
    assert (refused.status_code, refused.json["error"]["code"]) == (503, "OVERLOADED")
    assert counted() == {"OVERLOADED": 1}
