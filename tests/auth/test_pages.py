"""The small pages behind the links in mails: what they are sent with, and what they are made of.

What they do, a real browser shows in tests/system/test_account_pages.py.
"""

import re
from html.parser import HTMLParser

import pytest

from app.auth import pages
from app.mail.values import LIFETIMES
from app.mail.wording import CONTENTS
from tests.client import Client
from tests.limiting import SwitchOn, assert_limited

FILES = {"/account/page.js": "text/javascript", "/account/page.css": "text/css"}
PAGES = [f"/account/{name}" for name in pages.NAMES]
API = "/api/v1/auth"
CALLS = {
    "verify": f"{API}/email/verify",
    "reset": f"{API}/password/reset",
    "undo": f"{API}/undo",
}


class Parts(HTMLParser):
    """Collects the elements of a page as (name, attributes), and what stands between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.elements[-1][0] if self.elements else ""
        self.texts[tag] = self.texts.get(tag, "") + data.strip()

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def parts(client: Client, path: str) -> Parts:
    return Parts(client.get(path).text)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_html_that_nobody_keeps_frames_or_adds_to(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    policy = dict(
        part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_inline_and_loads_its_two_files_alone(client: Client, path: str) -> None:
    page = parts(client, path)
    assert [each["src"] for each in page.all("script")] == ["/account/page.js"]
    assert page.texts.get("script", "") == ""
    assert [each["href"] for each in page.all("link")] == ["data:,", "/account/page.css"]
    assert page.all("style") == []
    for _, attributes in page.elements:
        assert not {"style", "action", "formaction"} & set(attributes)
        assert [name for name in attributes if name.startswith("on")] == []
    assert "http" not in client.get(path).text


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read_to_somebody(client: Client, path: str) -> None:
    page = parts(client, path)
    assert page.all("html") == [{"lang": "en"}]
    assert page.texts["title"] == page.texts["h1"] != ""
    assert "JavaScript" in client.get(path).text.partition("<noscript>")[2]
    (answer,) = (each for tag, each in page.elements if each.get("role") == "status")
    assert answer["id"] == "answer"
    labelled = {each.get("for") for each in page.all("label")}
    for field in page.all("input"):
        # The box to tick stands inside its label.
        assert field["type"] == "checkbox" or field["id"] in labelled
    assert len(page.all("button")) == 1


def test_the_password_is_one_that_password_managers_make_and_keep(client: Client) -> None:
    password, _ = parts(client, "/account/reset").all("input")
    assert (password["type"], password["autocomplete"]) == ("password", "new-password")
    assert password["minlength"] == "8"
    # Browsers cut what is pasted to it and say nothing; the API says that it is too long.
    assert "maxlength" not in password


def test_each_page_hands_over_to_the_call_that_its_mails_are_for(client: Client) -> None:
    found = {
        path.rpartition("/")[2]: parts(client, path).all("form")[0]["data-call"] for path in PAGES
    }
    assert found == CALLS
    # Every kind of mail with a link has its page here, and no page is without a mail.
    assert {CONTENTS[kind].page for kind in LIFETIMES} == set(CALLS)
    for call in CALLS.values():
        assert client.post(call, json={}).status_code == 422


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_asked_for_anew_and_sent_only_when_it_has_changed(
    client: Client, path: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, FILES[path])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    # A page and a script of two versions wouldn't fit each other.
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_the_script_and_the_style_name_no_foreign_host_and_write_no_html(client: Client) -> None:
    for path in FILES:
        text = client.get(path).text
        assert re.search(r"https?:|//\w+\.|@import|url\(", text) is None
        assert re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", text) is None
        assert re.search(r"localStorage|sessionStorage|cookie", text) is None


@pytest.mark.parametrize(
    "path",
    [
        *("/account", "/account/", "/account/verify/", "/account/other", "/account/verify.html"),
        *("/account/__init__.py", "/account/page.js/", "/account/../pages/__init__.py"),
        "/account/%2e%2e/__init__.py",
    ],
)
def test_nothing_else_is_there(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "NOT_FOUND")


def test_every_file_of_the_folder_is_served(client: Client) -> None:
    files = {
        f"/account/{path.name}".removesuffix(".html"): path
        for path in pages.FOLDER.iterdir()
        if path.suffix not in (".py", "") and not path.name.startswith(".")
    }
    assert set(files) == {*PAGES, *FILES}
    for path, file in files.items():
        assert client.get(path).data == file.read_bytes()


def test_pages_count_as_requests_of_their_address(client: Client, limits: SwitchOn) -> None:
    limits(rate_limit_anonymous_per_minute=2)
    seen = [
        client.get(path, environ_base={"REMOTE_ADDR": "192.0.2.7"})
        for path in ("/account/verify", "/account/page.js", "/account/reset")
    ]
    assert [answer.status_code for answer in seen[:2]] == [200, 200]
    assert_limited(seen[2], limit=2, within=60)
