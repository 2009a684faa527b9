"""A client that takes an answer too slowly loses it, and one that is slow enough doesn't."""

import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf

import gevent
import gevent.socket
import pytest

from app.platform import connection as connection_module
from app.platform import overload
from app.platform.answering import Answering
from app.platform.connection import Connection
from app.platform.connections import SPARE, Connections

SEND_SECONDS = 0.5
ANSWER = b"x" * 400_000


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection with little room on its way."""
    monkeypatch.setattr(connection_module, "SEND_SECONDS", SEND_SECONDS)
    server, client = socket.socketpair()
    with server, client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield server, client


def taking(client: socket.socket, size: int) -> threading.Event:
    """Take so much again and again, in a thread, until the event is set."""
    enough = threading.Event()

    def take() -> None:
        while not enough.wait(0.01) and client.recv(size):
            continue

    threading.Thread(target=take, daemon=True).start()
    return enough


def test_who_takes_too_little_is_cut_off_although_something_is_taken_all_the_time(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "SLOWEST_BYTES_PER_SECOND", 10_000_000)
    server, client = ends
    connection = Connection(server, keep_seconds=75)
    connection.begin_answer("GET", "/")
    enough, begun = taking(client, 1000), time.monotonic()
    with pytest.raises(ConnectionResetError):
        connection.send_all(ANSWER)
    enough.set()
    assert time.monotonic() - begun < SEND_SECONDS + 2


def test_who_takes_enough_may_take_longer_than_the_limit_for_silence(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "SLOWEST_BYTES_PER_SECOND", 1000)
    server, client = ends
    connection = Connection(server, keep_seconds=75)
    connection.begin_answer("GET", "/")
    enough, begun = taking(client, 4000), time.monotonic()
    connection.send_all(ANSWER)
    enough.set()
    assert time.monotonic() - begun > SEND_SECONDS


def test_a_client_that_is_cut_off_while_it_takes_an_answer_hears_nothing_more(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    server, client = ends
    connection = Connection(server, keep_seconds=75)
    every = Connections(SPARE + 1)
    connection.begin_answer("GET", "/")
    failed = threading.Event()

    def send() -> None:
        try:
            connection.send_all(ANSWER)
        except OSError:
            failed.set()

    sending = threading.Thread(target=send)
    sending.start()
    while connection.since == inf:
        time.sleep(0.01)
    every.add(connection)
    # A newcomer is one too many, and this one waits for its client.
    every.add(Connection(client, keep_seconds=75))
    sending.join(5)
    assert failed.is_set()
    while client.recv(65536):
        continue


def test_who_reads_a_large_answer_slowly_holds_no_copy_of_it(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """Seen failing with head and body joined, whatever their length."""
    server, client = ends
    connection, large = Connection(server, keep_seconds=75), ANSWER * 10
    connection.begin_answer("GET", "/")
    answering = Answering(connection, None)
    enough = taking(client, 65536)
    tracemalloc.start()
    try:
        answering.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        answering.sendall(large)
        assert tracemalloc.get_traced_memory()[1] < len(large) / 10
    finally:
        tracemalloc.stop()
        enough.set()


def test_room_is_made_once_somebody_waits_for_their_client() -> None:
    """Seen failing: nobody could when it became full, and no newcomer is accepted any more."""
    pairs = [socket.socketpair() for _ in range(2)]
    with ExitStack() as ends:
        for each in (each for pair in pairs for each in pair):
            ends.enter_context(each)
        every = Connections(SPARE + 1)
        busy = [Connection(server, keep_seconds=75) for server, _ in pairs]
        for connection in busy:
            connection.begin_answer("GET", "/")
            every.add(connection)
        every.end_overdue()
        busy[1].end_answer(buffered=False)
        every.end_overdue()
        pairs[0][1].sendall(b"x")
        with pytest.raises(BrokenPipeError):
            pairs[1][1].sendall(b"x")


def test_whoever_is_ended_while_their_turn_is_awaited_gets_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The request has been read, so the edge can say so."""
    monkeypatch.setattr(overload, "keep_waiting", lambda *_: True)
    server, client = gevent.socket.socketpair()
    with server, client:
        connection = Connection(server, keep_seconds=75)
        waiting = gevent.spawn(connection.begin_answer, "GET", "/")
        gevent.sleep(0)
        gevent.get_hub().loop.run_callback(connection.end)
        waiting.get(timeout=5)
        assert connection.is_refused


def test_nobody_makes_room_for_themself(ends: tuple[socket.socket, socket.socket]) -> None:
    server, client = ends
    every = Connections(SPARE + 1)
    busy = Connection(server, keep_seconds=75)
    busy.begin_answer("GET", "/")
    every.add(busy)
    every.add(Connection(client, keep_seconds=75))
    server.sendall(b"x")
    assert client.recv(1) == b"x"


def test_what_had_arrived_when_a_connection_was_ended_is_still_read() -> None:
    """Seen failing for the rest of a head: gevent wakes who waits as if nothing had come."""
    server, client = gevent.socket.socketpair()
    with server, client:
        connection, got = Connection(server, keep_seconds=75), []
        reading = gevent.spawn(lambda: got.extend(connection.recv(100) for _ in range(3)))
        for data in (b"GET /", b" HTTP"):
            gevent.sleep(0.01)
            client.sendall(data)
        connection.hang_up()
        reading.join(5)
    assert got == [b"GET /", b" HTTP", b""]


def refusing(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Refuse everything, with an answer of so many bytes."""

    def keep_waiting(connection: Connection, _: bytes) -> bool:
        timer = gevent.get_hub().loop.timer(0.05)
        timer.start(lambda: timer.close() or connection.refuse(b"x" * size, closes=False))
        return True

    monkeypatch.setattr(overload, "keep_waiting", keep_waiting)


def test_who_has_no_room_for_a_refusal_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, 10_000_000)
    server, client = gevent.socket.socketpair()
    with server, client:
        client.sendall(b"GET /")
        assert gevent.spawn(Connection(server, keep_seconds=75).recv, 100).get(timeout=5) == b""


def test_what_comes_during_a_pause_belongs_to_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a body, which many clients send after the head; the end of a direction changes nothing."""
    server, client = gevent.socket.socketpair()
    connection = Connection(server, keep_seconds=75)
    timer = gevent.get_hub().loop.timer(0.05)
    kept = iter([True, False])

    def keep_waiting(_: Connection, __: bytes) -> bool:
        timer.start(connection.admit)
        return next(kept)

    monkeypatch.setattr(overload, "keep_waiting", keep_waiting)
    with server, client:
        reading = gevent.spawn(connection.recv, 100)
        client.sendall(b"POST /")
        gevent.sleep(0.01)
        client.sendall(b"{}")
        client.shutdown(gevent.socket.SHUT_WR)
        assert reading.get(timeout=5) == b"POST /{}"
    timer.close()


def test_who_is_ended_during_a_pause_hears_nothing_more() -> None:
    server, client = gevent.socket.socketpair()
    with server, client:
        connection = Connection(server, keep_seconds=75)
        reading = gevent.spawn(connection.recv, 100)
        gevent.sleep(0.01)
        reading.kill()
        assert not connection.refuse(b"x", closes=False)
        connection.admit()
        connection.end()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)


def test_a_mistake_in_the_event_loop_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen failing: gevent stops the watcher, and the greenlet would wait for ever."""

    def keep_waiting(_: Connection, __: bytes) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(overload, "keep_waiting", keep_waiting)
    server, client = gevent.socket.socketpair()
    with server, client:
        client.sendall(b"GET /")
        assert gevent.spawn(Connection(server, keep_seconds=75).recv, 100).get(timeout=5) == b""
