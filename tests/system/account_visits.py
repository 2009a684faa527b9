"""Who visits the pages behind the links in mails, and what a test sees of it."""

import re
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, Response, expect

from tests.mail.smtp_server import Received, SmtpServer
from tests.system.http import answer

OLD, NEW = "hopper-1947-moth-in-relay", "hamilton-1969-lunar-module"
BUTTONS = {
    "verify": "Confirm my address",
    "reset": "Set this password",
    "undo": "Take it back",
}
# What the API could never have sent: 48 bytes in base64, and none of ours.
FOREIGN = "A" * 64
PATIENCE = 30.0
NUMBERS = count(1)


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


def press(page: Page, *, password: str | None = None) -> None:
    """Do what the page is for."""
    if password is not None:
        page.get_by_label("New password").fill(password)
    page.get_by_role("button").click()


def says(page: Page, words: str) -> None:
    """Wait until the page says this."""
    expect(page.get_by_role("status")).to_contain_text(words, timeout=PATIENCE * 1000)
