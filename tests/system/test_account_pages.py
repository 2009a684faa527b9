"""The pages behind the links in mails: in a real browser, with mails from a real mail server."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.mail.smtp_server import smtp_server
from tests.network import free_port
from tests.system.account_visits import (
    BUTTONS,
    FOREIGN,
    NEW,
    NUMBERS,
    OLD,
    PATIENCE,
    User,
    Watch,
    Web,
    press,
    says,
)
from tests.system.debian import browser
from tests.system.http import wait_for
from tests.system.image_steps import MEMORY, Image, serving


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
    user = User(web=web, email=f"grace{next(NUMBERS)}@example.org")
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
            sender = {"X-Forwarded-For": address or f"198.51.100.{next(NUMBERS)}"}
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
    thief = f"thief{next(NUMBERS)}@example.org"
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
