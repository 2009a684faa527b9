"""Only a whole and simple request may be refused unread: everything else could hide another."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.platform import cors, unread
from app.platform.settings import Settings

HOST = b"Host: localhost\r\n"
GET = b"GET /api/v1/users/me HTTP/1.1\r\n" + HOST
POST = b"POST /api/v1/credits/transfers HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    ("data", "closes"),
    [
        (GET + b"\r\n", False),
        (GET + b"Connection: keep-alive\r\n\r\n", False),
        (GET + b"Connection: close\r\n\r\n", True),
        (POST + b"Content-Length: 2\r\n\r\n{}", False),
        (POST + b"CONTENT-LENGTH:2\r\nAccept: */*\r\n\r\n{}", False),
        (POST + b"Content-Length: 0\r\n\r\n", False),
        (POST + b"Content-Length: 2\r\nConnection:close\r\n\r\n{}", True),
        (GET + b"CONNECTION: \tClose \r\n\r\n", True),
        (GET + b"Connection: closed\r\n\r\n", False),
        (GET + b"X: Connection: close\r\n\r\n", False),
        (GET + b"Upgrade-Insecure-Requests: 1\r\n\r\n", False),
    ],
)
def test_a_whole_simple_request_is_refused_as_it_is(data: bytes, closes: bool) -> None:
    assert unread.look_at(data) == unread.Request(closes=closes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET,
        GET[:-1] + b"\r\n",
        # What isn't ours to answer.
        b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"OPTIONS / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /\r\nX: HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\r\n\r\n",
        b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /\xe4 HTTP/1.1\r\n" + HOST + b"\r\n",
        GET + HOST + b"\r\n",
        GET + b"X: \x00\r\n\r\n",
        GET + b"X: \x7f\r\n\r\n",
        # Bodies whose end is somewhere else, or could be.
        GET + b"\r\nGET / HTTP/1.1\r\n\r\n",
        POST + b"Content-Length: 2\r\n\r\n{",
        POST + b"Content-Length: 2\r\n\r\n{}G",
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length : 2\r\n\r\n{}",
        POST + b"Content-Length: 0x2\r\n\r\n{}",
        POST + b"Content-Length: 2, 2\r\n\r\n{}",
        POST + b"X: 1\nContent-Length: 5\r\n\r\n",
        POST + b"X: 1\nContent-Length: 2\r\n\r\n{}",
        POST + b"X: 1\rContent-Length: 2\r\n\r\n",
        POST + b"X: 1\n Content-Length: 2\r\n\r\n",
        POST + b"Content-Length: 2\r\n 0\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{}",
        POST + b" Transfer-Encoding: chunked\r\n\r\n",
        POST + b"\x0bTransfer-Encoding: chunked\r\n\r\n",
        POST + b"\xa0Transfer-Encoding: chunked\r\n\r\n",
        POST + b'"Transfer-Encoding: chunked\r\n\r\n',
        POST + b"X\x0bContent-Length: 30\r\n\r\n",
        POST + b"X Content-Length: 30\r\n\r\n",
        POST + b"\x00Content-Length: 30\r\n\r\n",
        POST + b"Content-Length\r\n\r\n",
        POST + b"Content-Length\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 2\r\r\n\r\n{}",
        POST + b"X: 1\r\r\n\r\n",
        POST + b"X: 1\rTransfer-Encoding: chunked\r\n\r\n",
        POST + b"Content-Length: 12345678\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\ntransfer-ENCODING: x\r\n\r\n{}",
        POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        # What the answer would have to heed.
        GET + b"Accept: application/problem+json\r\n\r\n",
        GET + b"X-Request-Id: mine\r\nX-Request-Id: another\r\n\r\n",
        GET + b"Origin: https://app.example.org\r\norigin: https://app.example.org\r\n\r\n",
    ],
)
def test_everything_else_takes_the_ordinary_way(data: bytes) -> None:
    assert unread.look_at(data) is None


PAGE = "https://shop.example"


@pytest.fixture
def configured(settings: Settings) -> Iterator[None]:
    """Answers that pages of PAGE may read."""
    unread.configure(replace(settings, cors_origins=("https://other.example", PAGE)))
    yield
    unread.configure(settings)


def refused(*lines: str, closes: bool = False) -> tuple[dict[str, str], str]:
    """Return the headers of a refusal, and the request's id in its body."""
    sent = GET + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
    request = unread.look_at(sent)
    assert request is not None
    head, _, body = unread.refusal(request, closes=closes).decode().partition("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    assert headers["Content-Length"] == str(len(body))
    return headers, json.loads(body)["error"]["request_id"]


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("given", ["m", "mine.1_2-3", "i" * 128])
def test_a_refusal_has_the_id_that_the_client_gave(given: str) -> None:
    headers, in_body = refused(f"x-request-ID: {given}  ")
    assert headers["X-Request-Id"] == in_body == given


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("given", ["", "a b", "i" * 129, '"', "%d", "\xe4"])
def test_a_refusal_has_a_new_id_instead_of_a_bad_one(given: str) -> None:
    ids = set()
    for _ in range(2):
        headers, in_body = refused(f"X-Request-Id: {given}")
        assert headers["X-Request-Id"] == in_body
        ids.add(in_body)
    assert {len(each) for each in ids} == {32}
    assert len(ids) == 2


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("closes", [False, True])
def test_a_page_of_an_allowed_origin_may_read_its_refusal(closes: bool) -> None:
    headers, _ = refused(f"Origin:{PAGE}", closes=closes)
    assert set(cors.for_refusal(PAGE, {PAGE})) <= set(headers.items())
    assert headers["Connection"] == ("close" if closes else "keep-alive")


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("page", ["", "null", PAGE + ".evil.example", PAGE.upper(), "\xe4"])
def test_no_other_page_may(page: str) -> None:
    headers, _ = refused(f"Origin: {page}")
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("data", "times"),
    [
        (GET + b"\r\n", 1),
        (GET + b"X: " + b"x" * 3000 + b"\r\n\r\n", 0),
        (POST + b"Content-Length: 2\r\n\r\n{}", 0),
        (POST + b"Content-Length: 4\r\n\r\n\r\n\r\n", 0),
        (POST + b"Content-Length: 2\r\n\r\n{", 0),
    ],
)
def test_only_a_short_request_without_a_body_is_remembered(data: bytes, times: int) -> None:
    unread.forget()
    first = unread.look_at(data)
    assert unread.look_at(data) == first
    known = unread._remembered.cache_info()
    assert (known.currsize, known.hits) == (times, times)
    unread.forget()
    assert unread._remembered.cache_info().currsize == 0
