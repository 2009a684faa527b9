"""What mails say: the same in text and in HTML, whatever users are called."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mail.messages import WIDTH, Rendered, render
from app.mail.values import LIFETIMES, Kind

URL = "https://bursar.acme.org"
TOKEN = "mail-token-" + "t" * 53
FACTS = {
    "device": "Firefox on Windows",
    "address": "192.0.2.7",
    "time": "29 November 2026, 14:05 UTC",
    "date": "29 December 2026",
    "scopes": "self:read",
}
PAGES = {
    Kind.VERIFY: "verify",
    Kind.SIGN_UP: "verify",
    Kind.CHANGE: "verify",
    Kind.RESET: "reset",
    Kind.FORCED_RESET: "reset",
    Kind.CHANGE_NOTICE: "undo",
    Kind.DELETION: "undo",
}
NAMES = [
    "Ada",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "Ada\r\nBcc: eve@example.com",
    "{host} {0} %s",
    "\u202eadA",
    "👩\u200d🚀 Ada",
    "क्\u200dष",
    "N" * 100,
    " ",
]


class Page(HTMLParser):
    """The tags, the addresses and the visible lines of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.shown: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags[-1] != "title":
            self.shown.append(" ".join(data.split()))


def rendered(kind: Kind, name: str = "Ada", **facts: str) -> Rendered:
    return render(kind, name=name, public_url=URL, token=TOKEN, facts=FACTS | facts)


@pytest.mark.parametrize("kind", Kind)
def test_text_and_html_of_a_mail_say_the_same(kind: Kind) -> None:
    mail = rendered(kind)
    page = Page(mail.html)
    text = " ".join(mail.text.split()).replace(" -- ", " ")
    html = " ".join(page.shown)
    for shown_once in ("If the button doesn't work, open this address: ", *_button(page)):
        html = html.replace(shown_once, "", 1)
    assert html == text


def _button(page: Page) -> list[str]:
    return [
        f"{page.shown[page.shown.index(words) - 1]} "
        for words in page.shown
        if "the button" in words
    ]


@pytest.mark.parametrize("kind", Kind)
def test_a_mail_has_one_link_or_none(kind: Kind) -> None:
    mail = rendered(kind)
    page = Page(mail.html)
    links = [f"{URL}/account/{PAGES[kind]}#{TOKEN}"] if kind in PAGES else []
    assert [line for line in mail.text.splitlines() if "://" in line] == links
    assert page.addresses == links
    assert [words for words in page.shown if "://" in words] == links
    assert mail.html.count("://") == 2 * len(links)
    assert TOKEN not in mail.subject + repr(mail)


@pytest.mark.parametrize("kind", Kind)
def test_a_mail_is_plain_and_friendly_to_every_reader(kind: Kind) -> None:
    mail = rendered(kind)
    page = Page(mail.html)
    assert set(page.tags) <= {"html", "head", "meta", "title", "body", "p", "a", "br", "hr", "span"}
    assert '<meta name="color-scheme" content="light dark">' in mail.html
    lines = mail.text.splitlines()
    assert all(len(line) <= WIDTH for line in lines if "://" not in line)
    assert lines[0] == "Hello Ada,"
    assert "bursar.acme.org" in mail.text
    assert mail.text.isascii()
    assert "{" not in mail.text + mail.html.partition("<body")[2]
    assert re.fullmatch(r"[A-Z][a-z :]{10,60}", mail.subject)


@pytest.mark.parametrize("kind", LIFETIMES)
def test_a_mail_says_how_long_its_link_is_good(kind: Kind) -> None:
    days = LIFETIMES[kind].days
    words = f"{days} days" if days else "1 hour"
    assert f"The link is good for {words}, and works once" in rendered(kind).text


def test_every_kind_with_a_link_has_a_lifetime_and_no_other() -> None:
    assert set(LIFETIMES) == set(PAGES)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", NAMES)
def test_no_name_changes_what_a_mail_is_made_of(kind: Kind, name: str) -> None:
    mail, usual = rendered(kind, name), rendered(kind)
    page, usual_page = Page(mail.html), Page(usual.html)
    assert page.tags == usual_page.tags
    assert page.shown[1:] == usual_page.shown[1:]
    assert mail.text.partition(",\n\n")[2] == usual.text.partition(",\n\n")[2]
    assert mail.subject == usual.subject
    assert "\u202e" not in mail.text + mail.html


def test_names_are_greeted_as_they_are_written() -> None:
    for name in ("Ada", "J. R. R. O'Brien-Smith", "<b>", "👩\u200d🚀", "क्\u200dष", "N" * 100):
        mail = rendered(Kind.VERIFY, name)
        # A very long name stands on a line of its own.
        assert " ".join(mail.text.partition("\n\n")[0].split()) == f"Hello {name},"
        assert Page(mail.html).shown[0] == f"Hello {name},"


@pytest.mark.parametrize(
    "name", ["https://evil.example", "Win at evil.example!", "eve@evil", "www.evil.com", "a/b", ""]
)
def test_nobody_is_greeted_by_what_looks_like_a_link(name: str) -> None:
    mail = rendered(Kind.VERIFY, name)
    assert mail.text.startswith("Hello,\n")
    assert Page(mail.html).shown[0] == "Hello,"


@given(name=st.text(max_size=100), device=st.text(max_size=100))
def test_strangers_words_stay_in_their_place(name: str, device: str) -> None:
    mail = rendered(Kind.NEW_DEVICE, name, device=device)
    usual = rendered(Kind.NEW_DEVICE)
    assert Page(mail.html).tags == Page(usual.html).tags
    assert len(mail.text.split("\n\n")) == len(usual.text.split("\n\n"))


def test_facts_are_told_and_escaped() -> None:
    mail = rendered(
        Kind.NEW_DEVICE, device='<a href="https://evil.example">', time="now\n\nPS: pay"
    )
    assert "Device: <a href=" in mail.text
    assert "Network address: 192.0.2.7\nTime: now PS: pay\n" in mail.text
    assert Page(mail.html).addresses == []
    assert unescape(mail.html).count("Network address: 192.0.2.7") == 1
    assert "29 December 2026" in rendered(Kind.DELETION).text


def test_a_link_without_a_token_and_a_missing_fact_are_mistakes() -> None:
    with pytest.raises(ValueError, match="reset needs a token"):
        render(Kind.RESET, name="Ada", public_url=URL, token=None, facts={})
    with pytest.raises(KeyError):
        render(Kind.NEW_DEVICE, name="Ada", public_url=URL, token=None, facts={})
