"""Only a whole and simple request may be refused unread: everything else could hide another."""

import gevent
import gevent.socket
import pytest
from flask import Flask

from app.platform import overload
from app.platform.connections import Connection
from app.platform.settings import Settings
from app.users import passwords

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
    assert overload._look_at(data) == (True, closes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET,
        GET[:-1] + b"\r\n",
        # Probes, and what isn't ours to answer.
        b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /ready HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n",
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
    assert overload._look_at(data) == (False, False)


def test_what_needs_more_than_the_database_is_refused_without_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    overload.configure(settings)
    monkeypatch.setattr(overload, "_needs", {})
    full = [True]
    overload.also_refuse("POST /hash", lambda: full[0])

    def refused(line: str) -> bool:
        server, client = gevent.socket.socketpair()
        with server, client:
            reading = gevent.spawn(Connection(server, keep_seconds=75).recv, 8192)
            client.sendall(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            reading.join(overload.PAUSE_SECONDS * 3)
            if reading.dead:
                return False
            reading.kill()
            assert client.recv(8192).startswith(b"HTTP/1.1 503")
            return True

    calls = ("POST /hash", "POST /hashes", "GET /hash", "POST /hash/x", "POST /")
    assert [refused(call) for call in calls] == [True, False, False, False, False]
    full[0] = False
    assert not refused("POST /hash")


def test_a_mistake_after_a_pause_ends_the_connection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing: nothing else would wake the greenlet, or count its wait."""
    overload.configure(settings)
    monkeypatch.setattr(overload, "_needs", {})
    full = iter([True])
    overload.also_refuse("POST /hash", lambda: next(full))
    server, client = gevent.socket.socketpair()
    with server, client:
        client.sendall(b"POST /hash HTTP/1.1\r\nHost: a\r\n\r\n")
        reading = gevent.spawn(Connection(server, keep_seconds=75).recv, 8192)
        assert reading.get(timeout=5) == b""


def test_sign_ins_and_sign_ups_need_a_place_where_passwords_are_hashed(app: Flask) -> None:
    calls = {"POST /api/v1/auth/login", "POST /api/v1/users"}
    assert {call.decode().strip() for call in overload._needs} == calls
    assert calls <= {
        f"POST {rule.rule}" for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())
    }
    assert set(overload._needs.values()) == {passwords.is_full}
