"""Device tokens: one for each login session, good for a year and for one user."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row

from app.auth.device_tokens import known_device, make_device_token
from app.keys import master
from app.platform import clock
from tests.auth.refreshing import LOGIN, REFRESH, sign_in
from tests.client import Client
from tests.limiting import later
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
DEVICE, USER = uuid4(), uuid4()
YEAR = 365 * 24 * 3600

# Making it configures the master keys.
pytestmark = pytest.mark.usefixtures("app")


def known(token: str | None, user_id: UUID | None) -> UUID | None:
    return known_device(token, user_id=user_id, password_changed_at=None)


def token_of(**changes: Any) -> str:
    parts = {"device_id": DEVICE, "user_id": USER, "issued_at": clock.now()} | changes
    parts.setdefault("password_changed_at", None)
    return make_device_token(**parts)


def test_a_token_is_its_users_and_lasts_a_year() -> None:
    token = token_of()
    assert len(token) == 96
    assert known(token, USER) == DEVICE
    assert known(token, uuid4()) is None
    assert known(token, None) is None
    assert known(None, USER) is None
    with later(YEAR - 60):
        assert known(token, USER) == DEVICE
    with later(YEAR + 1):
        assert known(token, USER) is None


def test_a_token_from_before_a_change_of_password_is_nobodys() -> None:
    changed = clock.now()
    for issued_at in (changed, changed - timedelta(days=1)):
        before = token_of(issued_at=issued_at)
        assert known_device(before, user_id=USER, password_changed_at=changed) is None
        renewed = token_of(issued_at=issued_at, password_changed_at=changed)
        assert known_device(renewed, user_id=USER, password_changed_at=changed) == DEVICE


def test_every_changed_character_makes_it_nobodys() -> None:
    token = token_of()
    for place, character in enumerate(token):
        other = "A" if character != "A" else "B"
        assert known(token[:place] + other + token[place + 1 :], USER) is None
    for malformed in ("", token[:-1], token + "A", token[:-1] + "=", "\u00e9" * 96, " " * 96):
        assert known(malformed, USER) is None


def test_a_token_of_an_older_master_key_is_good_as_long_as_that_is_known() -> None:
    before = tuple((version, master._keys[version]) for version in master.versions())
    token, newest = token_of(), before[0][0] + 1
    try:
        master.configure([(newest, bytes(range(32))), *before])
        assert known(token, USER) == DEVICE
        assert token_of() != token
        master.configure([(newest, bytes(range(32)))])
        assert known(token, USER) is None
    finally:
        master.configure(before)


def test_each_answer_of_a_login_session_has_the_same_token(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    tokens = sign_in(client, user)
    for _ in range(2):
        renewed = client.post(REFRESH, json={"refresh_token": tokens["refresh_token"]}).json
        assert renewed["device_token"] == tokens["device_token"]
        tokens = renewed
    device = known(tokens["device_token"], user.id)
    assert str(device) == tokens["session_id"]


def test_a_device_that_shows_its_token_is_the_same_device(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    first = sign_in(client, user)
    second = sign_in(client, user, more={"device_token": first["device_token"]})
    third = sign_in(client, user, more={"device_token": second["device_token"]})
    stranger = sign_in(client, user)
    stored = "SELECT device_id FROM login_sessions WHERE id = :id"
    ids = [sql(stored, id=one["session_id"])[0][0] for one in (first, second, third, stranger)]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    with later(200 * 24 * 3600):
        renewed = sign_in(client, user, more={"device_token": third["device_token"]})
    # A year from the last sign-in, not from the first one.
    with later(500 * 24 * 3600):
        assert known(renewed["device_token"], user.id) == ids[0]
        assert known(first["device_token"], user.id) is None


def test_a_login_session_from_before_device_tokens_is_its_own_device(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    tokens = sign_in(client, user)
    sql("UPDATE login_sessions SET device_id = NULL WHERE id = :id", id=tokens["session_id"])
    renewed = client.post(REFRESH, json={"refresh_token": tokens["refresh_token"]}).json
    assert str(known(renewed["device_token"], user.id)) == tokens["session_id"]


@pytest.mark.parametrize("kind", ["nonsense", "another user's", "old", "long"])
def test_a_token_that_is_no_good_is_no_error(
    client: Client, make_user: MakeUser, kind: str
) -> None:
    user = make_user()
    token = {
        "nonsense": "x",
        "another user's": token_of(),
        "old": token_of(user_id=user.id, issued_at=clock.now() - timedelta(days=366)),
        "long": "x" * 1000,
    }[kind]
    tokens = sign_in(client, user, more={"device_token": token})
    assert str(known(tokens["device_token"], user.id)) == tokens["session_id"]


@pytest.mark.parametrize("token", [1, "", "x" * 1001, ["x"]])
def test_what_can_be_no_token_is_refused(client: Client, make_user: MakeUser, token: Any) -> None:
    user = make_user()
    body = {"email": user.email, "password": user.password, "device_token": token}
    assert client.post(LOGIN, json=body).status_code == 422
