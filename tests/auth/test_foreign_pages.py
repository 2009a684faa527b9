"""Which pages may use a browser's cookie: good and bad origins, good and bad CSRF tokens."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask

from app import configure, create_app
from app.auth import tokens as auth_tokens
from app.keys import master
from app.platform.settings import Settings
from tests.auth.browsing import LOGOUT, Page
from tests.auth.refreshing import LOGIN, REFRESH, Sql, stored
from tests.client import Client
from tests.people import TestUser

MakeUser = Callable[..., TestUser]
PUBLIC_URL = "https://bursar.acme.org"
SHOP = "https://shop.acme.org"
ELSEWHERE = "http://localhost:4000"
ALLOWED = [
    PUBLIC_URL,
    "https://localhost",  # The host of the request, with the scheme of the public address.
    SHOP,
    ELSEWHERE,
]
FOREIGN = [
    "null",
    "",
    "https://evil.example",
    "http://bursar.acme.org",
    "https://bursar.acme.org:8443",
    "https://bursar.acme.org/",
    "https://BURSAR.acme.org",
    "https://bursar.acme.org.evil.example",
    "https://evil.bursar.acme.org",
    "https://acme.org",
    "https://localhost:4000",
    "http://localhost",
    f"{SHOP}, https://evil.example",
    "é",
]


@pytest.fixture(scope="module")
def service(settings: Settings, app: Flask) -> Iterator[Flask]:
    """The application behind a public address, with two more origins whose pages may call it."""
    yield create_app(replace(settings, public_url=PUBLIC_URL, cors_origins=(SHOP, ELSEWHERE)))
    configure(settings)


@pytest.fixture
def page(service: Flask, make_user: MakeUser) -> Page:
    """A page that somebody is signed in on."""
    return Page(Client(service), make_user())


@pytest.mark.parametrize("origin", ALLOWED)
def test_pages_of_ours_and_of_allowed_origins_may(
    page: Page, make_user: MakeUser, origin: str
) -> None:
    sent = {"Origin": origin}
    assert page.refresh(headers=sent).status_code == 200
    assert page.logout(headers=sent).status_code == 204
    assert login(page, make_user(), origin) == 200


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_of_other_origins_may_not(
    page: Page, make_user: MakeUser, sql: Sql, origin: str
) -> None:
    for send in (page.refresh, page.logout):
        answer = send(headers={"Origin": origin})
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "FORBIDDEN")
        assert "Set-Cookie" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert_unchanged(page, sql)
    assert login(page, make_user(), origin) == 403


def test_an_invented_host_is_no_origin_of_ours(page: Page) -> None:
    answer = page.refresh(headers={"Host": "evil.example", "Origin": "https://evil.example"})
    assert answer.status_code == 400


def test_what_is_no_page_has_no_origin(page: Page) -> None:
    assert page.refresh().status_code == 200


@pytest.mark.parametrize("path", [REFRESH, LOGOUT])
@pytest.mark.parametrize("origin", [None, PUBLIC_URL])
def test_the_cookie_needs_the_csrf_token_of_its_login_session(
    page: Page, make_user: MakeUser, sql: Sql, path: str, origin: str | None
) -> None:
    good = page.tokens["csrf_token"]
    another = auth_tokens.make_csrf_token(session_id=make_user().session_id)
    named = {} if origin is None else {"Origin": origin}
    for bad in (None, "", good[:-1], good + "0", good.upper() + " ", "0" * 64, "é" * 64, another):
        proof = {} if bad is None else {"X-CSRF-Token": bad}
        answer = page.client.post(path, headers=named | proof)
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "FORBIDDEN"), bad
        assert "Set-Cookie" not in answer.headers
    assert_unchanged(page, sql)
    assert page.refresh(headers=named).status_code == 200


def test_a_csrf_token_made_under_an_older_master_key_is_good(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    (current,) = master._keys.items()
    monkeypatch.setattr(master, "_keys", {})
    monkeypatch.setattr(master, "_current", 0)
    master.configure(((current[0] + 1, b"new" * 11), current))
    new = page.refresh().json["csrf_token"]
    assert new != page.tokens["csrf_token"]
    assert page.refresh().status_code == 200
    assert page.refresh(headers={"X-CSRF-Token": new}).status_code == 200
    master.configure(((current[0] + 1, b"new" * 11),))
    assert page.refresh().status_code == 403
    assert page.refresh(headers={"X-CSRF-Token": new}).status_code == 200


def test_a_csrf_token_is_no_key_to_anything_else(page: Page) -> None:
    stolen = page.tokens["csrf_token"]
    assert page.client.get("/api/v1/users/me", token=stolen).status_code == 401
    assert page.client.post(REFRESH, json={"refresh_token": stolen}).status_code == 400


def login(page: Page, user: TestUser, origin: str) -> int:
    """Sign in from a page of the origin, and return the status."""
    body = {"email": user.email, "password": user.password, "transport": "cookie"}
    status: int = page.client.post(LOGIN, json=body, headers={"Origin": origin}).status_code
    return status


def assert_unchanged(page: Page, sql: Sql) -> None:
    row = stored(sql, page.tokens)
    assert (row["generation"], row["ended_at"]) == (1, None)
