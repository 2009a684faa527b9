"""A client that takes an answer too slowly loses it, and one that is slow enough doesn't."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from app.platform import connections
from app.platform.connections import Connection, Connections

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
    every = Connections(connections.SPARE)
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
    # The newcomer is one too many, and the other one waits longer.
    every.add(connection)
    sending.join(5)
    assert failed.is_set()
    while client.recv(65536):
        continue
