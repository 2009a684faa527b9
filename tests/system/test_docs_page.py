"""The page at `/docs` in a real browser: its operations can be read and tried."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.system.debian import browser
from tests.system.http import wait_for
from tests.system.image_steps import Image, serving


@pytest.fixture(scope="module")
def url(image: Image, installation: dict[str, str]) -> Iterator[str]:
    """The address of a running service."""
    code, said = image.run(["flask", "db", "upgrade"], installation)
    assert code == 0, said
    with serving(image, installation):
        wait_for(f"{installation['APP_PUBLIC_URL']}/ready", 200)
        yield installation["APP_PUBLIC_URL"]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a fresh browser, with the time limits of a slow machine."""
    with sync_playwright() as playwright:
        # Root has no sandbox, and the page is our own.
        started = playwright.chromium.launch(executable_path=browser(), chromium_sandbox=False)
        page = started.new_page()
        page.set_default_timeout(30_000)
        yield page
        started.close()


def test_an_operation_can_be_read_and_tried_and_no_foreign_host_is_asked(
    page: Page, url: str
) -> None:
    complaints: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))

    page.goto(f"{url}/docs")
    expect(page.locator(".info .title")).to_contain_text("Bursar")
    operation = page.locator(".opblock", has=page.locator('[data-path="/api/v1/users"]')).filter(
        has_text="POST"
    )
    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill(
        '{"email": "eve@example.com", "name": "Eve", "password": "page-of-the-docs"}'
    )
    operation.get_by_role("button", name="Execute").click()
    answered = operation.locator(".live-responses-table .response-col_status")
    expect(answered.last).to_contain_text("201", timeout=30_000)

    assert hosts - {""} == {urlsplit(url).netloc}
    assert complaints == []


def test_a_browser_is_sent_from_the_root_to_the_page(page: Page, url: str) -> None:
    page.goto(url)
    assert page.url == f"{url}/docs"
