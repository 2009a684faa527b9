"""Signing in from pages in a real browser, with the example that README gives.

The page of a shop is on another origin of the same site: `localhost` with another port. So is a
stranger's. `127.0.0.1` is another site to a browser, though it is the same machine.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error, Page, sync_playwright

from tests.system.debian import browser
from tests.system.http import answer, wait_for
from tests.system.image_steps import Image, serving

README = Path(__file__).resolve().parents[2] / "README.md"
PUBLIC = "https://bursar.acme.org"
COOKIE = "__Secure-bursar_refresh"
TABS = 20
WHOEVER = {"email": "eve@example.com", "password": "page-of-a-shop-7"}


@contextmanager
def pages_with(script: Callable[[], str]) -> Iterator[int]:
    """Serve a page with the script at every path of a port of localhost."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<!doctype html><title>Shop</title><script>{script()}</script>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Web:
    """A running service, the shop's pages and the stranger's."""

    def __init__(self, installation: dict[str, str], stack: ExitStack) -> None:
        self.service = f"http://localhost:{installation['APP_SERVER_PORT']}"
        (example,) = re.findall(r"```js\n(.*?)```", README.read_text(), re.DOTALL)
        assert example.count(PUBLIC) == 1
        script = example.replace(PUBLIC, self.service)
        shop = stack.enter_context(pages_with(lambda: script))
        stranger = stack.enter_context(pages_with(lambda: script))
        self.shop, self.stranger = f"http://localhost:{shop}/", f"http://localhost:{stranger}/"
        self.other_site = f"http://127.0.0.1:{shop}/"
        self.settings = installation | {
            "APP_PUBLIC_URL": self.service,
            # The other site is allowed to read answers, and still gets no cookie sent.
            "APP_CORS_ORIGINS": f"{self.shop[:-1]},{self.other_site[:-1]}",
        }


@pytest.fixture(scope="module")
def web(image: Image, installation: dict[str, str]) -> Iterator[Web]:
    """The service in production's mode, with a user, and pages around it."""
    with ExitStack() as stack:
        web = Web(installation, stack)
        code, said = image.run(["flask", "db", "upgrade"], web.settings)
        assert code == 0, said
        stack.enter_context(serving(image, web.settings))
        wait_for(f"{web.service}/ready", 200)
        status, said = answer(f"{web.service}/api/v1/users", WHOEVER | {"name": "Eve"})
        assert status == 201, said
        yield web


@pytest.fixture
def context() -> Iterator[BrowserContext]:
    """A fresh browser without cookies."""
    with sync_playwright() as playwright:
        # Root has no sandbox, and the pages are our own.
        started = playwright.chromium.launch(executable_path=browser(), chromium_sandbox=False)
        context = started.new_context()
        context.set_default_timeout(30_000)
        yield context
        started.close()


def opened(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    return page


def sign_in(page: Page) -> None:
    page.evaluate("user => signIn(user.email, user.password)", WHOEVER)


def who(page: Page) -> Any:
    """Return the address of the user whose access token the page has, or an error's code."""
    return page.evaluate(
        """async () => {
            const headers = { Authorization: `Bearer ${accessToken}` };
            const told = await (await fetch(`${API}/users/me`, { headers })).json();
            return told.email ?? told.error.code;
        }"""
    )


def generation(page: Page) -> int:
    """Return how often the login session had been refreshed for the page's access token."""
    found: int = page.evaluate('JSON.parse(atob(accessToken.split(".")[1])).gen')
    return found


def refused(page: Page, call: str) -> str:
    """Return why a call of the example fails: the error's code, or the browser's words."""
    with pytest.raises(Error) as refusal:
        page.evaluate(call)
    return refusal.value.message


def test_a_page_signs_in_reloads_refreshes_in_many_tabs_and_signs_out(
    context: BrowserContext, web: Web
) -> None:
    page = opened(context, web.shop)
    sign_in(page)
    assert who(page) == WHOEVER["email"]
    (cookie,) = (
        each for each in context.cookies(f"{web.service}/api/v1/auth") if each["name"] == COOKIE
    )
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    # Cookies don't know ports: only HttpOnly keeps this page from the token.
    assert opened(context, f"{web.shop}api/v1/auth/x").evaluate("document.cookie") == ""

    page.reload()
    assert page.evaluate("accessToken") is None
    page.evaluate("refresh()")
    assert who(page) == WHOEVER["email"]

    tabs = [opened(context, web.shop) for _ in range(TABS)]
    # At once, and so that some send a cookie that others have had replaced meanwhile.
    for apart_ms in (0, 3, 20, 60):
        begin = (time.time() + 3) * 1000
        for number, tab in enumerate(tabs):
            tab.evaluate(
                """at => {
                    const wait = new Promise(resolve => setTimeout(resolve, at - Date.now()));
                    window.done = wait.then(refresh);
                }""",
                begin + number * apart_ms,
            )
        for tab in tabs:
            tab.evaluate("done")
        assert {who(tab) for tab in tabs} == {WHOEVER["email"]}
        # The cookie was replaced once, if at all.
        assert len({generation(tab) for tab in tabs}) <= 2
    page.evaluate("refresh()")
    assert who(page) == WHOEVER["email"]

    page.evaluate("signOut()")
    assert [each for each in context.cookies() if each["name"] == COOKIE] == []
    assert {who(tab) for tab in tabs} == {"UNAUTHENTICATED"}
    assert "INVALID_REFRESH_TOKEN" in refused(tabs[0], "refresh()")
    sign_in(page)
    assert who(page) == WHOEVER["email"]


def test_a_page_of_an_origin_that_is_not_allowed_can_do_nothing(
    context: BrowserContext, web: Web
) -> None:
    page, strange = opened(context, web.shop), opened(context, web.stranger)
    sign_in(page)
    csrf = page.evaluate("localStorage.csrf")
    strange.evaluate("csrf => { localStorage.csrf = csrf }", csrf)
    for call in ('signIn("a@example.com", "b")', "refresh()", "signOut()"):
        assert "Failed to fetch" in refused(strange, call)
    # A form asks nobody first: it arrives, with the cookie, because the site is the same.
    with strange.expect_navigation() as told:
        strange.evaluate(
            """() => {
                const form = document.createElement("form");
                Object.assign(form, { method: "POST", action: `${API}/auth/logout` });
                document.documentElement.append(form);
                form.submit();
            }"""
        )
    assert COOKIE in told.value.request.all_headers()["cookie"]
    assert told.value.status == 403
    page.evaluate("refresh()")
    assert who(page) == WHOEVER["email"]


def test_a_page_of_another_site_gets_no_cookie_sent(context: BrowserContext, web: Web) -> None:
    page, other = opened(context, web.shop), opened(context, web.other_site)
    sign_in(page)
    other.evaluate("csrf => { localStorage.csrf = csrf }", page.evaluate("localStorage.csrf"))
    assert "INVALID_REFRESH_TOKEN" in refused(other, "refresh()")
    assert "UNAUTHENTICATED" in refused(other, "signOut()")
    page.evaluate("refresh()")
    assert who(page) == WHOEVER["email"]
