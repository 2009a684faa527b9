"""What a user is told about by mail."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from app.platform import clock
from tests.auth.refreshing import refresh, renewed, sign_in, use
from tests.client import Client
from tests.mailing import Postman
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
FIREFOX = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"}

HOME = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}


def kinds(postman: Postman, user: TestUser) -> list[str]:
    return [mail.kind for mail in postman.deliver(user_id=user.id)]


def test_a_sign_in_from_another_device_is_told_of_once(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user()
    assert kinds(postman, user) == []
    tokens: dict[str, Any] = sign_in(client, user, headers=FIREFOX, **HOME)
    (mail,) = postman.deliver(user_id=user.id)
    assert mail.kind == "new_device"
    assert mail.token is None
    assert "Firefox on Windows" in mail.text
    assert "192.0.2.7" in mail.text
    # The same look again, and the same device in another guise.
    sign_in(client, user, headers=FIREFOX, **HOME)
    sign_in(client, user, more={"device_token": tokens["device_token"]})
    assert kinds(postman, user) == []
    sign_in(client, user, headers=FIREFOX, environ_overrides={"REMOTE_ADDR": "192.0.2.8"})
    assert kinds(postman, user) == ["new_device"]


def test_the_reuse_of_a_refresh_token_is_told_of(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user()
    first = sign_in(client, user, headers=FIREFOX)
    second = renewed(client, first)
    use(client, second)
    third = renewed(client, second)
    use(client, third)
    assert refresh(client, first).status_code == 401
    assert kinds(postman, user) == ["new_device", "reused"]


def test_who_comes_back_after_so_long_that_nothing_is_left_is_told(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user = make_user()
    sql("DELETE FROM login_sessions WHERE user_id = :id", id=user.id)
    long_ago = clock.now() - timedelta(days=200)
    sql("UPDATE users SET created_at = :at WHERE id = :id", at=long_ago, id=user.id)
    sign_in(client, user, headers=FIREFOX)
    assert kinds(postman, user) == ["new_device"]


def test_an_api_key_is_told_of(client: Client, make_user: MakeUser, postman: Postman) -> None:
    user = make_user()
    body = {"name": "Robot", "scopes": ["self:read", "self:write"]}
    assert client.post("/api/v1/api-keys", token=user.token, json=body).status_code == 201
    (mail,) = postman.deliver(user_id=user.id)
    assert mail.kind == "api_key_made"
    assert "self:read, self:write" in mail.text
