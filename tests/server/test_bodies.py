"""What clients do to a body, on real sockets."""

import json
import socket
import time

import pytest

from tests.server.serving import Server, read_all, read_answer
from tests.server.small import BODY_SECONDS

POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def refused(answer: bytes) -> tuple[int, str]:
    """Return status and code of an error, having checked that the connection ends with it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    error = json.loads(body)["error"]
    assert f"X-Request-Id: {error['request_id']}".encode() in head
    return int(head.split()[1]), error["code"]


def test_a_body_arrives_whole(server: Server) -> None:
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 5\r\n\r\nhello")
        head, body = read_answer(client)
        assert (head.split()[1], body) == (b"200", b"5")
        # The connection is kept, and the next request on it is its own.
        client.sendall(CHUNKED + b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n")
        assert read_answer(client)[1] == b"7"


def test_a_body_in_pieces_within_the_limit_is_taken(server: Server) -> None:
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 4\r\n\r\n")
        for byte in (b"a", b"b", b"c", b"d"):
            time.sleep(0.1)
            client.sendall(byte)
        assert read_answer(client)[1] == b"4"


def test_a_body_of_one_mebibyte_is_taken_and_one_more_byte_is_not(server: Server) -> None:
    limit = 1 << 20
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % limit + b"x" * limit)
        assert read_answer(client)[1] == b"%d" % limit
    declared = POST + b"Content-Length: %d\r\n\r\n" % (limit + 1)
    assert refused(server.exchange(declared + b"x" * (limit + 1))) == (413, "PAYLOAD_TOO_LARGE")


def test_ten_megabytes_are_refused_and_the_client_sees_the_answer(server: Server) -> None:
    body = b"x" * 10_000_000
    with server.connect() as client:
        # Like most clients: everything is sent before the answer is read.
        client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert refused(read_all(client)) == (413, "PAYLOAD_TOO_LARGE")


def test_a_chunked_body_above_the_limit_is_refused_not_cut(server: Server) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    answer = server.exchange(CHUNKED + chunk * 40 + b"0\r\n\r\n")
    assert refused(answer) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n" + b" " * 9000,
    ],
)
def test_broken_chunks_are_a_bad_request(server: Server, chunks: bytes) -> None:
    assert refused(server.exchange(CHUNKED + chunks)) == (400, "BAD_REQUEST")


def test_a_body_shorter_than_declared_is_a_bad_request(server: Server) -> None:
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 10\r\n\r\nabc")
        client.shutdown(socket.SHUT_WR)
        assert refused(read_all(client)) == (400, "BAD_REQUEST")


def test_a_body_that_drips_is_cut_at_its_deadline(server: Server) -> None:
    began = time.monotonic()
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        client.settimeout(0.1)
        answer = b""
        while b"\r\n\r\n" not in answer:
            client.sendall(b"x")
            try:
                answer += client.recv(65536)
            except TimeoutError:
                assert time.monotonic() - began < BODY_SECONDS + 2
        client.settimeout(10)
        assert refused(answer + read_all(client)) == (408, "REQUEST_TIMEOUT")
    assert time.monotonic() - began >= BODY_SECONDS


def test_fifty_dripping_bodies_leave_health_alone(server: Server) -> None:
    clients = [server.connect() for _ in range(50)]
    try:
        for client in clients:
            client.sendall(CHUNKED + b"5\r\nab")
        began = time.monotonic()
        assert server.get("/health").status == 200
        assert time.monotonic() - began < 0.5
        assert refused(read_all(clients[0])) == (408, "REQUEST_TIMEOUT")
    finally:
        for client in clients:
            client.close()


def test_a_body_without_a_length_is_refused(server: Server) -> None:
    answer = server.exchange(POST + b"Content-Type: application/json\r\n\r\n")
    assert refused(answer) == (411, "LENGTH_REQUIRED")


def test_a_get_with_a_content_type_and_no_body_is_fine(server: Server) -> None:
    assert server.get("/who", Content_Type="application/json").status == 200


def test_a_client_that_waits_for_the_go_ahead_gets_it(server: Server) -> None:
    with server.connect() as client:
        client.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"ab")
        assert read_answer(client)[1] == b"2"


def test_a_refused_body_is_not_read_for_ever(server: Server) -> None:
    began = time.monotonic()
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 100000000\r\n\r\n")
        assert refused(read_all(client)) == (413, "PAYLOAD_TOO_LARGE")
        assert drip_until_closed(client) - began < 10


def drip_until_closed(client: socket.socket) -> float:
    """Go on sending, and return the time at which the server had enough of it."""
    try:
        for _ in range(150):
            client.sendall(b"x")
            time.sleep(0.1)
    except OSError:
        return time.monotonic()
    raise AssertionError("the server still reads")
