"""Signs in as a browser does: the cookies are the client's, the CSRF token is the page's."""

from collections.abc import Mapping
from copy import copy
from http.cookies import Morsel, SimpleCookie
from typing import Any

from werkzeug.test import TestResponse

from tests.auth.refreshing import LOGIN, REFRESH
from tests.client import Client
from tests.people import TestUser

LOGOUT = "/api/v1/auth/logout"
COOKIE = "__Secure-bursar_refresh"
DEVICE_COOKIE = "bursar_device"
PATH = "/api/v1/auth"


def cookies(answer: TestResponse) -> dict[str, Morsel[str]]:
    """Return what an answer tells the browser to keep or to delete."""
    kept: SimpleCookie = SimpleCookie()
    for header in answer.headers.getlist("Set-Cookie"):
        kept.load(header)
    return dict(kept)


def deletes(answer: TestResponse) -> bool:
    """Tell whether an answer has the browser delete the refresh token."""
    told = cookies(answer)
    return COOKIE in told and (told[COOKIE].value, told[COOKIE]["max-age"]) == ("", "0")


class Page:
    """A page that a user signed in on, in a browser of its own."""

    def __init__(self, client: Client, user: TestUser, **sent: str) -> None:
        self.client = client
        body = {"email": user.email, "password": user.password, "transport": "cookie"}
        self.answer = client.post(LOGIN, json=body | sent)
        assert self.answer.status_code == 200, self.answer.json
        self.tokens: dict[str, Any] = self.answer.json
        self.refresh_token = cookies(self.answer)[COOKIE].value

    def post(
        self, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> TestResponse:
        """Send a request as a page of ours does, with the cookies that the browser has."""
        proof = {"X-CSRF-Token": self.tokens["csrf_token"]}
        return self.client.post(path, headers=proof | dict(headers or {}), **options)

    def beside(self, client: Client) -> "Page":
        """Return another tab of the page, which sends its requests on a client of its own."""
        tab = copy(self)
        tab.client = client
        return tab

    def holding(self, refresh_token: str) -> "Page":
        """Have the browser hold another refresh token than it was given."""
        self.client.jar.set_cookie(COOKIE, refresh_token, path=PATH)
        return self

    def refresh(self, **options: Any) -> TestResponse:
        return self.post(REFRESH, **options)

    def logout(self, **options: Any) -> TestResponse:
        return self.post(LOGOUT, **options)
