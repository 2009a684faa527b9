"""Deadlines, streams, refused heads and log lines, on real sockets."""

import json
import socket
import threading
import time
import uuid

import pytest

from tests.server.serving import Server, read_all, read_answer, wait_until
from tests.server.small import DEADLINE_SECONDS


def test_a_request_beyond_its_deadline_is_503(server: Server) -> None:
    began = time.monotonic()
    answer = server.get("/sleep/60.0")
    assert DEADLINE_SECONDS <= time.monotonic() - began < DEADLINE_SECONDS + 2
    assert answer.status == 503
    assert answer.json["error"]["code"] == "TIMEOUT"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-Id"] == answer.json["error"]["request_id"]


def test_no_ordinary_handler_swallows_the_deadline(server: Server) -> None:
    assert server.get("/swallow").json["error"]["code"] == "TIMEOUT"


def test_the_deadline_of_one_request_does_not_reach_the_next(server: Server) -> None:
    with server.connect() as client:
        for _ in range(3):
            client.sendall(b"GET /sleep/0.8 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(client)[1] == b"slept"


def test_a_stream_may_last_longer_than_the_deadline(server: Server) -> None:
    began = time.monotonic()
    answer = server.get("/stream/200")
    assert time.monotonic() - began > DEADLINE_SECONDS
    assert len(answer.body) == 200 * 65536


def test_a_stream_ends_when_the_client_takes_nothing(server: Server) -> None:
    request_id = uuid.uuid4().hex
    with socket.socket() as client:
        # A small window, so that the server has to wait soon.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(
            b"GET /stream/1000 HTTP/1.1\r\nHost: localhost\r\n"
            + f"X-Request-Id: {request_id}\r\n\r\n".encode()
        )
        wait_until(lambda: requests(server, request_id))
        (line,) = requests(server, request_id)
        assert line["aborted"] is True
    assert "Traceback" not in server.text()


def requests(server: Server, request_id: str) -> list[dict[str, object]]:
    return [line for line in server.lines("request") if line["request_id"] == request_id]


def test_an_error_before_the_first_piece_is_a_proper_answer(server: Server) -> None:
    answer = server.get("/broken-stream/0")
    assert answer.status == 500
    assert answer.json["error"]["code"] == "INTERNAL_ERROR"


def test_a_stream_that_breaks_off_can_not_be_taken_for_whole(server: Server) -> None:
    answer = server.exchange(b"GET /broken-stream/2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken canary-header\r\n\r\n", 400),
        (b"canary-nonsense\r\n\r\n", 400),
    ],
)
def test_a_head_beyond_the_limits_is_refused(server: Server, head: bytes, status: int) -> None:
    with server.connect() as client:
        client.sendall(head)
        assert int(client.recv(65536).split()[1]) == status
    assert "canary" not in server.text()
    assert "127.0.0.1" not in "".join(str(line) for line in server.lines("Invalid request"))


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "local host", "", "a,b"]
)
def test_a_foreign_host_is_refused_but_for_probes(server: Server, host: str) -> None:
    answer = server.get("/who", Host=host)
    assert answer.status == 400
    assert answer.json["error"]["code"] == "BAD_REQUEST"
    for probe in ("/health", "/healthz", "/metrics"):
        assert server.get(probe, Host=host).status == 200


def test_nobody_vouches_for_a_forwarded_address_by_default(server: Server) -> None:
    answer = server.get("/who", X_Forwarded_For="1.2.3.4", X_Forwarded_Proto="https")
    assert answer.json["address"] == "127.0.0.1"


def test_an_unexpected_error_is_one_line_and_one_answer(server: Server) -> None:
    answer = server.get("/boom")
    assert answer.status == 500
    request_id = answer.headers["X-Request-Id"]
    assert answer.json["error"]["request_id"] == request_id
    errors = [
        line
        for line in map(json.loads, server.text().splitlines())
        if line["level"] == "error" and line.get("request_id") == request_id
    ]
    assert [line["error"] for line in errors] == ["ValueError"]
    assert "small.py" in errors[0]["trace"]
    assert b"canary" not in answer.body
    assert "canary" not in server.text()


def test_an_error_outside_of_requests_is_one_line(server: Server) -> None:
    assert server.get("/greenlet").status == 200
    wait_until(lambda: server.lines("uncaught_exception"))
    (line,) = server.lines("uncaught_exception")
    assert (line["level"], line["error"]) == ("error", "ZeroDivisionError")
    assert "Traceback" not in server.text()


def test_a_view_can_not_end_the_worker(server: Server) -> None:
    before = server.workers()
    assert server.get("/unasked").json["error"]["code"] == "INTERNAL_ERROR"
    assert server.workers() == before


def test_each_request_is_one_line_by_its_route(server: Server) -> None:
    request_id = uuid.uuid4().hex
    server.get("/sleep/0.01?token=canary-query", X_Request_Id=request_id)
    # It is written once the answer has left.
    wait_until(lambda: requests(server, request_id))
    (line,) = requests(server, request_id)
    assert line["route"] == "/sleep/<float:seconds>"
    assert (line["method"], line["status"], line["level"]) == ("GET", 200, "info")
    assert "canary" not in server.text()


def test_a_busy_client_lets_another_have_its_turn(server: Server) -> None:
    """Many requests sent at once on one connection must not all be answered before others."""
    many = 2000
    request_id = uuid.uuid4().hex
    with server.connect() as busy:
        # What nobody takes isn't answered either.
        taking = threading.Thread(target=read_all, args=(busy,))
        taking.start()
        who = b"GET /who HTTP/1.1\r\nHost: localhost\r\n"
        busy.sendall((who + b"\r\n") * (many - 1) + who + b"Connection: close\r\n\r\n")
        assert server.get("/who", X_Request_Id=request_id).status == 200
        taking.join(20)
        wait_until(lambda: len(server.lines("request")) > many)
    order = [line["request_id"] for line in server.lines("request")]
    assert request_id not in order[-10:]
