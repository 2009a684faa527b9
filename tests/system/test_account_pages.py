"""The pages behind the links in mails: in a real browser, with mails from a real mail server."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, Response, expect, sync_playwright

from tests.mail.smtp_server import Received, SmtpServer, smtp_server
from tests.network import free_port
from tests.system.debian import browser
from tests.system.http import answer, wait_for
from tests.system.image_steps import MEMORY, Image, serving

OLD, NEW = "hopper-1947-moth-in-relay", "hamilton-1969-lunar-module"
BUTTONS = {
    "verify": "Confirm my address",
    "reset": "Set this password",
    "undo": "Take it back",
}
# What the API could never have sent: 48 bytes in base64, and none of ours.
FOREIGN = "A" * 64
PATIENCE = 30.0
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Web:
    """A running service with its worker, and the server that takes its mails."""

    url: str
    settings: dict[str, str]
    server: SmtpServer

    def ask(
        self, path: str, body: dict[str, str] | None = None, **options: str | None
    ) -> tuple[int, Any]:
        """Call the API."""
        return answer(f"{self.url}/api/v1{path}", body, **options)

    def link(self, email: str, page: str) -> str:
        """Return the link to a page in a mail to this address, as soon as one has arrived."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for received in self.server.mails():
                found = _link_in(received, page)
                if received.recipients == [email] and found:
                    return found
            time.sleep(0.2)
        pytest.fail(f"No mail with a link to the page {page} has come.")


def _link_in(received: Received, page: str) -> str | None:
    part = received.mail.get_body(("plain",))
    assert part is not None
    found = re.search(rf"^http\S+/account/{page}#\S+", part.get_content(), re.MULTILINE)
    return found and found[0]


@dataclass(kw_only=True)
class User:
    """Somebody who has signed up and in."""

    web: Web
    email: str
    token: str = ""

    def sign_in(self, password: str, *, email: str | None = None) -> tuple[int, str]:
        """Try to sign in, and return the status and the error's code."""
        body = {"email": email or self.email, "password": password}
        status, said = self.web.ask("/auth/login", body)
        if status == 200:
            self.token = said["access_token"]
        return status, "" if status == 200 else said["error"]["code"]

    def me(self) -> dict[str, Any]:
        """Return what the API says of the user, or of the error."""
        said: dict[str, Any] = self.web.ask("/users/me", token=self.token)[1]
        return said


@dataclass(kw_only=True)
class Watch:
    """What pages have done: what the browser complained of, and what was asked for."""

    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def on(self, page: Page) -> None:
        """Watch a page from now on."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request))
        page.on("response", self._look)

    def _hear(self, message: ConsoleMessage) -> None:
        # Each refusal of the API is said here too, and each request while there is no network.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _look(self, response: Response) -> None:
        if response.request.method == "GET" and response.status != 200:
            self.complaints.append(f"{response.url} is {response.status}")

    def posts(self) -> list[str]:
        """Return the paths of what was sent."""
        return [urlsplit(each.url).path for each in self.requests if each.method == "POST"]


@pytest.fixture(scope="module")
def web(
    image: Image, installation: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    """The service in production's mode, its worker, and a mail server."""
    with ExitStack() as stack:
        server = stack.enter_context(smtp_server(tmp_path_factory.mktemp("mails")))
        settings = installation | {
            "APP_MAIL_URL": server.url,
            "APP_MAIL_FROM": "Bursar <bursar@example.org>",
            # Each browser names its own network address, and so has limits of its own.
            "APP_SERVER_TRUSTED_PROXIES": "1",
        }
        code, said = image.run(["flask", "db", "upgrade"], settings)
        assert code == 0, said
        stack.enter_context(serving(image, settings))
        stack.enter_context(serving(image, settings, command=["flask", "worker"]))
        wait_for(f"{settings['APP_PUBLIC_URL']}/ready", 200)
        yield Web(url=settings["APP_PUBLIC_URL"], settings=settings, server=server)


@pytest.fixture
def user(web: Web) -> User:
    """Somebody who has just signed up, and signed in."""
    user = User(web=web, email=f"grace{next(_numbers)}@example.org")
    body = {"email": user.email, "name": "Grace", "password": OLD}
    status, said = web.ask("/users", body)
    assert status == 201, said
    assert user.sign_in(OLD) == (200, "")
    return user


@pytest.fixture
def watch() -> Watch:
    """What the pages of the test have done."""
    return Watch()


@pytest.fixture
def opened(web: Web, watch: Watch) -> Iterator[Callable[..., Page]]:
    """A function that opens a link in a fresh browser; at the end nothing odd has happened."""
    tokens = {FOREIGN}
    with sync_playwright() as playwright:
        # Root has no sandbox, and the pages are our own.
        started = playwright.chromium.launch(executable_path=browser(), chromium_sandbox=False)

        def opened(link: str, *, address: str = "", **options: Any) -> Page:
            tokens.add(urlsplit(link).fragment or FOREIGN)
            sender = {"X-Forwarded-For": address or f"198.51.100.{next(_numbers)}"}
            page = started.new_context(extra_http_headers=sender, **options).new_page()
            page.set_default_timeout(PATIENCE * 1000)
            watch.on(page)
            page.goto(link)
            return page

        yield opened
        urls = [request.url for request in watch.requests]
        sent = [f"{each.url} {each.all_headers()}" for each in watch.requests]
        started.close()
    assert watch.complaints == []
    own = {urlsplit(web.url).hostname}
    assert {urlsplit(url).hostname for url in urls if not url.startswith("data:")} == own
    assert [each for each in sent for token in tokens if token in each] == []


Opened = Callable[..., Page]


def press(page: Page, *, password: str | None = None) -> None:
    """Do what the page is for."""
    if password is not None:
        page.get_by_label("New password").fill(password)
    page.get_by_role("button").click()


def says(page: Page, words: str) -> None:
    """Wait until the page says this."""
    expect(page.get_by_role("status")).to_contain_text(words, timeout=PATIENCE * 1000)


def test_an_address_is_confirmed_by_the_button_and_not_by_opening_the_link(
    web: Web, user: User, watch: Watch, opened: Opened
) -> None:
    link = web.link(user.email, "verify")
    page = opened(link)
    expect(page.get_by_role("button", name=BUTTONS["verify"])).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert watch.posts() == []
    assert user.me()["email_verified"] is False
    # Nobody finds the token in what the browser keeps.
    assert page.url == f"{web.url}/account/verify"
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == [
        *("", 0, 0)
    ]
    assert urlsplit(link).fragment not in page.content()

    press(page)
    says(page, "Your address is confirmed.")
    expect(page.get_by_role("status")).to_be_focused()
    expect(page.get_by_role("button")).to_have_count(0)
    assert watch.posts() == ["/api/v1/auth/email/verify"]
    assert user.me()["email_verified"] is True

    again = opened(link)
    press(again)
    says(again, "This link is not good any more.")
    expect(again.get_by_role("button")).to_have_count(0)


def test_a_lost_password_is_replaced_with_the_keyboard_alone(
    web: Web, user: User, watch: Watch, opened: Opened
) -> None:
    assert web.ask("/auth/password/forgot", {"email": user.email}) == (202, {})
    link = web.link(user.email, "reset")
    page = opened(link)
    field = page.get_by_label("New password")
    page.keyboard.press("Tab")
    expect(field).to_be_focused()
    # The browser itself asks for more, and so does the API.
    for password in ("short", "password"):
        field.fill(password)
        page.keyboard.press("Enter")
        if password == "short":
            assert watch.posts() == []
    says(page, "This password is too easy to guess.")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("8 to 128.*too easy to guess"))
    field.fill("x" * 129)
    page.keyboard.press("Enter")
    says(page, "between 8 and 128")
    assert user.sign_in(OLD) == (200, "")

    field.fill(NEW)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(field).to_have_attribute("type", "text")
    page.keyboard.press("Space")
    expect(field).to_have_attribute("type", "password")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=BUTTONS["reset"])).to_be_focused()
    page.keyboard.press("Enter")
    says(page, "Your new password is set.")
    assert user.me()["error"]["code"] == "UNAUTHENTICATED"
    assert user.sign_in(OLD) == (401, "INVALID_CREDENTIALS")
    assert user.sign_in(NEW) == (200, "")

    again = opened(link)
    press(again, password=OLD)
    says(again, "This link is not good any more.")
    assert user.sign_in(NEW) == (200, "")


def test_a_change_of_address_is_taken_back_and_asks_for_a_new_password(
    web: Web, user: User, opened: Opened
) -> None:
    thief = f"thief{next(_numbers)}@example.org"
    # Only an address that is known to be the user's gets a way back.
    proof = urlsplit(web.link(user.email, "verify")).fragment
    assert web.ask("/auth/email/verify", {"token": proof})[0] == 204
    status, said = web.ask("/users/me", {"email": thief}, method="PATCH", token=user.token)
    assert (status, said["email"]) == (200, user.email)
    change = opened(web.link(thief, "verify"))
    press(change)
    says(change, "Your address is confirmed.")
    assert user.me()["email"] == thief

    link = web.link(user.email, "undo")
    page = opened(link)
    expect(page.get_by_role("button", name=BUTTONS["undo"])).to_be_visible()
    assert user.me()["email"] == thief
    press(page)
    says(page, "It is taken back.")
    assert user.me()["error"]["code"] == "UNAUTHENTICATED"
    assert user.sign_in(OLD, email=thief) == (401, "INVALID_CREDENTIALS")
    assert user.sign_in(OLD) == (403, "FORBIDDEN")
    again = opened(link)
    press(again)
    says(again, "This link is not good any more.")

    reset = opened(web.link(user.email, "reset"))
    press(reset, password=NEW)
    says(reset, "Your new password is set.")
    assert user.sign_in(NEW) == (200, "")
    assert user.me()["email"] == user.email


@pytest.mark.parametrize("name", BUTTONS)
def test_a_link_that_is_not_whole_or_not_ours_is_told_apart(
    web: Web, watch: Watch, opened: Opened, name: str
) -> None:
    page = opened(f"{web.url}/account/{name}")
    says(page, "A part of the link is missing")
    expect(page.get_by_role("button")).to_have_count(0)
    # A second link in the same tab changes nothing but the fragment.
    page.goto(f"{web.url}/account/{name}#{FOREIGN}")
    expect(page.get_by_role("button", name=BUTTONS[name])).to_be_visible()
    assert page.url == f"{web.url}/account/{name}"
    assert watch.posts() == []
    press(page, password=NEW if name == "reset" else None)
    says(page, "This link is not good any more.")
    page.reload()
    says(page, "A part of the link is missing")


def test_a_page_says_how_long_to_wait_and_when_nobody_answers(
    web: Web, user: User, opened: Opened
) -> None:
    page = opened(web.link(user.email, "verify"), address="203.0.113.9")
    page.context.set_offline(True)
    press(page)
    says(page, "We can't reach the service.")
    page.context.set_offline(False)

    page.evaluate(
        """async () => {
            while ((await fetch("/docs", { method: "HEAD" })).status === 200);
        }"""
    )
    press(page)
    says(page, "That was one try too many.")
    expect(page.get_by_role("status")).to_contain_text(re.compile(r"Wait \d+ seconds?,"))

    # What stands in front of the service answers in words of its own.
    page.route(
        "**/api/**", lambda route: route.fulfill(status=502, body="<title>Bad Gateway</title>")
    )
    press(page)
    says(page, "Something went wrong on our side.")
    assert user.me()["email_verified"] is False


def test_a_page_asks_for_patience_while_the_database_is_away(
    web: Web, user: User, image: Image, opened: Opened
) -> None:
    link = web.link(user.email, "verify")
    port = free_port()
    alone = web.settings | {
        "APP_DATABASE_URL": f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/nothing",
        "APP_DATA_DIR": f"{image.root}{MEMORY}/alone",
        "APP_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "APP_SERVER_PORT": str(port),
        "APP_SERVER_WORKERS": "1",
    }
    with serving(image, alone):
        wait_for(f"{alone['APP_PUBLIC_URL']}/health", 200)
        page = opened(link.replace(web.url, alone["APP_PUBLIC_URL"]))
        press(page)
        says(page, "The service is busy.")
        expect(page.get_by_role("button")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", BUTTONS)
def test_a_page_fits_a_small_screen_and_the_colours_that_its_reader_likes(
    web: Web, opened: Opened, name: str, scheme: str
) -> None:
    small = {"viewport": {"width": 320, "height": 560}, "color_scheme": scheme}
    page = opened(f"{web.url}/account/{name}#{FOREIGN}", **small)
    expect(page.get_by_role("button", name=BUTTONS[name])).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    ground = page.evaluate("getComputedStyle(document.querySelector('main')).backgroundColor")
    shades = [int(shade) for shade in re.findall(r"\d+", ground)[:3]]
    assert all(shade > 200 for shade in shades) if scheme == "light" else max(shades) < 60


@pytest.mark.parametrize("name", BUTTONS)
def test_without_javascript_a_page_says_what_it_needs(web: Web, opened: Opened, name: str) -> None:
    page = opened(f"{web.url}/account/{name}#{FOREIGN}", java_script_enabled=False)
    expect(page.locator("noscript")).to_be_visible()
    said = page.evaluate("document.querySelector('noscript').innerText")
    assert "This page needs JavaScript" in said
    expect(page.get_by_role("button")).to_have_count(0)
