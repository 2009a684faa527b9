"""Only a whole and simple request may be refused unread: everything else could hide another."""

import pytest

from app.platform import unread

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
    ],
)
def test_a_whole_simple_request_is_refused_as_it_is(data: bytes, closes: bool) -> None:
    assert unread.look_at(data) == (True, closes)


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
        GET + b"Origin: https://app.example.org\r\n\r\n",
        GET + b"Accept: application/problem+json\r\n\r\n",
        GET + b"X-Request-Id: mine\r\n\r\n",
    ],
)
def test_everything_else_takes_the_ordinary_way(data: bytes) -> None:
    assert unread.look_at(data) == (False, False)
