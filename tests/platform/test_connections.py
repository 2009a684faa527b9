"""A client that takes an answer too slowly loses it, and one that is slow enough doesn't."""

import socket
import threading
import time
from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from app.platform import connections, overload
from app.platform.connections import Connection, Connections
from app.platform.overload import Refusal

SEND_SECONDS = 0.5
ANSWER = b"x" * 400_000


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection with little room on its way."""
    monkeypatch.setattr(connections, "SEND_SECONDS", SEND_SECONDS)
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
    monkeypatch.setattr(connections, "SLOWEST_BYTES_PER_SECOND", 10_000_000)
    server, client = ends
    connection = Connection(server, keep_seconds=75)
    connection.begin_answer()
    enough, begun = taking(client, 1000), time.monotonic()
    with pytest.raises(ConnectionResetError):
        connection.send_all(ANSWER)
    enough.set()
    assert time.monotonic() - begun < SEND_SECONDS + 2


def test_who_takes_enough_may_take_longer_than_the_limit_for_silence(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SLOWEST_BYTES_PER_SECOND", 1000)
    server, client = ends
    connection = Connection(server, keep_seconds=75)
    connection.begin_answer()
    enough, begun = taking(client, 4000), time.monotonic()
    connection.send_all(ANSWER)
    enough.set()
    assert time.monotonic() - begun > SEND_SECONDS


def test_a_client_that_is_cut_off_while_it_takes_an_answer_hears_nothing_more(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    server, client = ends
    connection = Connection(server, keep_seconds=75)
    every = Connections(connections.SPARE + 1)
    connection.begin_answer()
    failed = threading.Event()

    def send() -> None:
        try:
            connection.send_all(ANSWER)
        except OSError:
            failed.set()

    sending = threading.Thread(target=send)
    sending.start()
    while connection.since == connections.inf:
        time.sleep(0.01)
    every.add(connection)
    # A newcomer is one too many, and this one waits for its client.
    every.add(Connection(client, keep_seconds=75))
    sending.join(5)
    assert failed.is_set()
    while client.recv(65536):
        continue


def test_nobody_makes_room_for_themself(ends: tuple[socket.socket, socket.socket]) -> None:
    server, client = ends
    every = Connections(connections.SPARE + 1)
    busy = Connection(server, keep_seconds=75)
    busy.begin_answer()
    every.add(busy)
    every.add(Connection(client, keep_seconds=75))
    server.sendall(b"x")
    assert client.recv(1) == b"x"


def test_what_had_arrived_when_a_connection_was_ended_is_still_read() -> None:
    """Seen failing: gevent wakes who waits as if nothing had come."""
    server, client = gevent.socket.socketpair()
    with server, client:
        connection, got = Connection(server, keep_seconds=75), []
        reading = gevent.spawn(lambda: got.extend(connection.recv(100) for _ in range(2)))
        gevent.sleep(0.01)
        client.sendall(b"GET /")
        connection.hang_up()
        reading.join(5)
    assert got == [b"GET /", b""]


def test_who_takes_no_refusal_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "refusal", lambda data: Refusal(ANSWER * 10, closes=False))
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    server, client = gevent.socket.socketpair()
    with server, client:
        every, connection = Connections(10), Connection(server, keep_seconds=75)
        every.add(connection)
        client.sendall(b"GET /")
        reading = gevent.spawn(connection.recv, 100)
        end = time.monotonic() + 5
        while not reading.dead and time.monotonic() < end:
            every.end_overdue()
            gevent.sleep(0.02)
        assert isinstance(reading.exception, ConnectionResetError)
