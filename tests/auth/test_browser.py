"""Browser mode: what stands in the cookies, what in the answers, and when a cookie is deleted."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import product
from threading import Barrier
from typing import Any

import pytest
import time_machine
from flask import Flask

from app import configure, create_app
from app.platform import clock
from app.platform.settings import Settings
from tests.auth.browsing import (
    COOKIE,
    DEVICE_COOKIE,
    LOGIN,
    LOGOUT,
    PATH,
    Page,
    cookies,
    deletes,
)
from tests.auth.refreshing import REFRESH, Sql, assert_refused, login, stored, use
from tests.client import Client
from tests.database import pool_on
from tests.people import TestUser

MakeUser = Callable[..., TestUser]
DAY = 24 * 3600


@pytest.fixture
def user(make_user: MakeUser) -> TestUser:
    return make_user()


@pytest.fixture
def page(app: Flask, user: TestUser) -> Page:
    """A page that the user is signed in on."""
    return Page(Client(app), user)


def later(**by: float) -> time_machine.travel:
    return time_machine.travel(clock.now() + timedelta(**by), tick=True)


def device_id(sql: Sql, tokens: dict[str, Any]) -> Any:
    """Return which device a login session belongs to: its own if it was a new one."""
    return stored(sql, tokens)["device_id"] or tokens["session_id"]


def test_the_refresh_token_is_in_the_cookie_and_in_no_answer(page: Page) -> None:
    answer = page.answer
    assert set(page.tokens) == {
        "access_token", "token_type", "expires_in", "session_id", "csrf_token",
    }  # fmt: skip
    assert answer.headers["Cache-Control"] == "no-store"
    assert page.refresh_token.encode() not in answer.data
    kept = cookies(answer)[COOKIE]
    assert len(page.refresh_token) == 80
    assert (kept["path"], kept["samesite"], kept["domain"]) == ("/api/v1/auth", "Strict", "")
    assert (kept["secure"], kept["httponly"]) == (True, True)
    assert 30 * DAY - 5 <= int(kept["max-age"]) <= 30 * DAY
    assert use(page.client, page.tokens) == 200


def test_the_device_token_is_in_a_cookie_that_stays(page: Page) -> None:
    first = cookies(page.answer)[DEVICE_COOKIE]
    assert (first["path"], first["samesite"], first["domain"]) == ("/api/v1/auth", "Strict", "")
    assert (first["secure"], first["httponly"], first["max-age"]) == (True, True, str(365 * DAY))
    assert first.value.encode() not in page.answer.data
    assert cookies(page.refresh())[DEVICE_COOKIE].value == first.value
    assert DEVICE_COOKIE not in cookies(page.logout())
    assert page.client.jar.get_cookie(DEVICE_COOKIE, path=PATH) is not None


@pytest.mark.parametrize("sent", [None, "body"])
def test_a_browser_that_signs_in_again_is_the_same_device(
    page: Page, user: TestUser, sql: Sql, sent: str | None
) -> None:
    before = device_id(sql, page.tokens)
    page.logout()
    if sent is not None:
        kept = cookies(page.answer)[DEVICE_COOKIE].value
        page.client.jar.set_cookie(DEVICE_COOKIE, "none of ours", path=PATH)
        again = Page(page.client, user, device_token=kept)
    else:
        again = Page(page.client, user)
    assert device_id(sql, again.tokens) == before
    # The device is the same one, however it signs in.
    page.client.jar.set_cookie(DEVICE_COOKIE, cookies(page.answer)[DEVICE_COOKIE].value, path=PATH)
    other = page.client.post(LOGIN, json={"email": user.email, "password": user.password})
    assert device_id(sql, other.json) == before


def test_in_development_the_cookies_go_without_tls(settings: Settings, user: TestUser) -> None:
    developing = Client(create_app(replace(settings, env="development")))
    body = {"email": user.email, "password": user.password, "transport": "cookie"}
    answer = developing.post(LOGIN, json=body)
    told = cookies(answer)
    assert set(told) == {"bursar_refresh", "bursar_device"}
    for kept in told.values():
        assert (kept["secure"], kept["httponly"], kept["samesite"]) == ("", True, "Strict")
    proof = {"X-CSRF-Token": answer.json["csrf_token"]}
    assert developing.post(REFRESH, headers=proof).status_code == 200
    configure(settings)


def test_who_asks_for_no_cookie_gets_none(client: Client, user: TestUser) -> None:
    body = {"email": user.email, "password": user.password}
    for asked in (body, body | {"transport": "body"}):
        answer = client.post(LOGIN, json=asked)
        assert "Set-Cookie" not in answer.headers
        assert "csrf_token" not in answer.json
        renewed = client.post(REFRESH, json={"refresh_token": answer.json["refresh_token"]})
        assert "Set-Cookie" not in renewed.headers
        assert set(renewed.json) == set(answer.json)
        signed_out = client.post(LOGOUT, json={"refresh_token": renewed.json["refresh_token"]})
        assert "Set-Cookie" not in signed_out.headers


def test_a_transport_that_does_not_exist_is_refused(client: Client, user: TestUser) -> None:
    body = {"email": user.email, "password": user.password}
    for transport in ("header", "", None, 1):
        assert client.post(LOGIN, json=body | {"transport": transport}).status_code == 422


def test_the_cookie_is_exchanged_for_a_new_one(page: Page, sql: Sql) -> None:
    answer = page.refresh()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert set(answer.json) == set(page.tokens)
    assert answer.json["csrf_token"] == page.tokens["csrf_token"]
    new = cookies(answer)[COOKIE]
    assert new.value != page.refresh_token
    assert (new["path"], new["samesite"], new["secure"]) == ("/api/v1/auth", "Strict", True)
    assert use(page.client, answer.json) == 200
    assert stored(sql, page.tokens)["generation"] == 2
    assert page.refresh().status_code == 200


def test_the_cookie_lives_as_long_as_the_login_session(page: Page) -> None:
    for day, left in ((20, 30), (45, 30), (70, 20), (89, 1)):
        with later(days=day):
            kept = cookies(page.refresh())[COOKIE]
            assert left * DAY - 60 <= int(kept["max-age"]) <= left * DAY


def test_the_cookie_before_gets_the_current_one_again(page: Page, sql: Sql) -> None:
    current = cookies(page.refresh())[COOKIE].value
    with later(hours=1):
        again = page.holding(page.refresh_token).refresh()
        kept = cookies(again)[COOKIE]
    assert (again.status_code, kept.value) == (200, current)
    # That long ago it was set for the whole time, and it runs out when it did.
    assert int(kept["max-age"]) <= 30 * DAY - 3600
    assert stored(sql, page.tokens)["generation"] == 2


def test_many_tabs_that_refresh_together_stay_signed_in(app: Flask, page: Page, sql: Sql) -> None:
    current = page.refresh_token
    for generation in range(2, 7):
        together = Barrier(20)

        def send(_: int, sent: str = current, gate: Barrier = together) -> Any:
            tab = page.beside(Client(app)).holding(sent)
            gate.wait()
            return tab.refresh()

        # Within the grace time it would be replaced only once.
        with later(seconds=31 * generation), ThreadPoolExecutor(20) as tabs:
            answers = list(tabs.map(send, range(20)))
        assert {answer.status_code for answer in answers} == {200}
        (current,) = {cookies(answer)[COOKIE].value for answer in answers}
        assert stored(sql, page.tokens)["generation"] == generation
        with later(seconds=31 * generation):
            assert {use(page.client, answer.json) for answer in answers} == {200}


def test_tabs_that_refresh_one_after_the_other_share_one_refresh_token(
    page: Page, sql: Sql
) -> None:
    """A tab's request with the first cookie arrives after others have gone on with the second."""
    first = page.refresh_token
    answers = [page.refresh() for _ in range(5)]
    answers += [page.holding(first).refresh(), page.refresh()]
    assert {answer.status_code for answer in answers} == {200}
    assert len({cookies(answer)[COOKIE].value for answer in answers} - {first}) == 1
    assert stored(sql, page.tokens)["generation"] == 2
    with later(seconds=31):
        assert page.refresh().status_code == 200
    assert stored(sql, page.tokens)["generation"] == 3


def test_a_login_session_that_is_over_deletes_the_cookie(
    page: Page, sql: Sql, user: TestUser
) -> None:
    end = "UPDATE login_sessions SET ended_at = now(), ended_reason = 'staff' WHERE id = :id"
    sql(end, id=page.tokens["session_id"])
    answer = page.refresh()
    assert_refused(answer, "SESSION_REVOKED")
    assert deletes(answer)
    assert cookies(answer)[COOKIE]["path"] == "/api/v1/auth"
    assert_refused(page.refresh(), "INVALID_REFRESH_TOKEN")


def test_reuse_deletes_the_cookie_of_who_was_late(page: Page) -> None:
    assert page.refresh().status_code == 200
    with later(seconds=31):
        assert page.refresh().status_code == 200
        answer = page.holding(page.refresh_token).refresh()
    assert_refused(answer, "SESSION_REVOKED")
    assert deletes(answer)


def test_in_the_body_a_login_session_that_is_over_deletes_nothing(
    client: Client, signed_in: dict[str, Any], sql: Sql
) -> None:
    end = "UPDATE login_sessions SET ended_at = now(), ended_reason = 'staff' WHERE id = :id"
    sql(end, id=signed_in["session_id"])
    answer = client.post(REFRESH, json={"refresh_token": signed_in["refresh_token"]})
    assert_refused(answer, "SESSION_REVOKED")
    assert "Set-Cookie" not in answer.headers


def test_a_token_that_is_none_of_ours_keeps_the_cookie(page: Page) -> None:
    good = page.refresh_token
    other = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
    for path, forged in product((REFRESH, LOGOUT), (other, good[:-4], "x", "!" * 80, "é" * 80)):
        answer = page.holding(forged).post(path)
        assert_refused(answer, "INVALID_REFRESH_TOKEN")
        assert "Set-Cookie" not in answer.headers
    assert page.holding(good).refresh().status_code == 200


def test_a_passing_fault_keeps_the_cookie(page: Page, settings: Settings) -> None:
    away = replace(settings, database_url="postgresql+psycopg2://x:y@127.0.0.1:1/none")
    with pool_on(away, instead_of=settings):
        for answer in (page.refresh(), page.logout()):
            assert answer.status_code == 503
            assert "Set-Cookie" not in answer.headers
    assert page.refresh().status_code == 200


def test_the_cookie_signs_out_and_is_deleted(page: Page, sql: Sql, user: TestUser) -> None:
    answer = page.logout()
    assert (answer.status_code, answer.data) == (204, b"")
    assert deletes(answer)
    assert use(page.client, page.tokens) == 401
    assert stored(sql, page.tokens)["ended_reason"] == "logout"
    assert use(page.client, {"access_token": user.token}) == 200
    # A tab that was late, with the cookie of before.
    again = page.holding(page.refresh_token).logout()
    assert (again.status_code, deletes(again)) == (204, True)


def test_an_access_token_signs_out_by_itself_and_deletes_the_cookie(page: Page, sql: Sql) -> None:
    foreign = {"Origin": "https://evil.example"}
    answer = page.client.post(LOGOUT, token=page.tokens["access_token"], headers=foreign)
    assert (answer.status_code, deletes(answer)) == (204, True)
    assert stored(sql, page.tokens)["ended_reason"] == "logout"


def test_the_cookie_of_another_login_session_stays(page: Page, user: TestUser) -> None:
    """An access token ends its own login session, and the browser keeps the other one's cookie."""
    for path in (LOGOUT, "/api/v1/auth/logout-all"):
        other = login(page.client, user).json["access_token"]
        answer = page.post(path, token=other)
        assert answer.status_code == 204
        assert "Set-Cookie" not in answer.headers
    assert deletes(page.refresh())
    own = login(page.client, user).json["access_token"]
    answer = page.holding("none of ours").post(LOGOUT, token=own)
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (204, False)


def test_an_access_token_that_ran_out_does_not_keep_from_signing_out(page: Page) -> None:
    answer = page.logout(token="bad")
    assert answer.status_code == 204
    assert deletes(answer)
    assert_refused(page.refresh(), "INVALID_REFRESH_TOKEN")


def test_a_cookie_and_a_token_in_the_body_are_too_much(
    page: Page, signed_in: dict[str, Any], sql: Sql
) -> None:
    body = {"refresh_token": signed_in["refresh_token"]}
    for path in (REFRESH, LOGOUT):
        for token in (None, page.tokens["access_token"])[: 2 if path == LOGOUT else 1]:
            answer = page.post(path, json=body, token=token)
            assert (answer.status_code, answer.json["error"]["code"]) == (400, "BAD_REQUEST")
            assert "Set-Cookie" not in answer.headers
    for tokens in (page.tokens, signed_in):
        row = stored(sql, tokens)
        assert (row["generation"], row["ended_at"]) == (1, None)


def test_an_empty_cookie_is_none(page: Page, signed_in: dict[str, Any]) -> None:
    page.holding("")
    assert_refused(page.refresh(), "INVALID_REFRESH_TOKEN")
    assert_refused(page.logout(), "UNAUTHENTICATED")
    body = {"refresh_token": signed_in["refresh_token"]}
    assert page.refresh(json=body).status_code == 200


def test_the_cookie_opens_nothing_but_signing_in(page: Page) -> None:
    page.client.jar.set_cookie(COOKIE, page.refresh_token, path="/")
    headers = {"X-CSRF-Token": page.tokens["csrf_token"]}
    assert page.client.get("/api/v1/users/me", headers=headers).status_code == 401
