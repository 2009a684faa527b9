"""Slow clients end in time, and hold nothing that others need, on real sockets."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from app.platform.connection import UNSENT_BYTES
from tests import tracing
from tests.server.serving import Server, read_all, read_answer, serving
from tests.server.small import HEAD_SECONDS, SEND_SECONDS
from tests.soak.slow import attacked

WHO = b"GET /who HTTP/1.1\r\nHost: localhost\r\n"
# As many as a worker takes here; it keeps some of them free.
CONNECTIONS = 40


def errors(server: Server) -> list[str]:
    """Return the server's log lines about errors; slow clients are none."""
    return [line for line in server.text().splitlines() if '"level":"error"' in line]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with few connections."""
    folder = tmp_path_factory.mktemp("narrow")
    options = f"--worker-connections={CONNECTIONS}"
    with serving(folder, options, **tracing.variables()) as server:
        yield server


def dripping(client: socket.socket, seconds: float) -> float:
    """Send a byte again and again until the server has enough, and return how long that took."""
    begun = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() - begun < seconds:
        try:
            client.sendall(b"x")
            if client.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


@pytest.mark.parametrize("requests", [0, 1])
def test_a_head_that_drips_is_cut_off(server: Server, requests: int) -> None:
    with server.connect() as client:
        for _ in range(requests):
            client.sendall(WHO + b"\r\n")
            read_answer(client)
        client.sendall(WHO + b"X-Slow: ")
        assert HEAD_SECONDS - 0.1 < dripping(client, 15) < HEAD_SECONDS + 8
    assert errors(server) == []


def test_a_new_connection_that_says_nothing_is_closed(server: Server) -> None:
    with server.connect() as client:
        begun = time.monotonic()
        assert read_all(client) == b""
        assert HEAD_SECONDS - 0.1 < time.monotonic() - begun < HEAD_SECONDS + 8
    assert errors(server) == []


def test_a_kept_connection_may_be_idle_for_longer(server: Server) -> None:
    with server.connect() as client:
        for pause in (0.0, HEAD_SECONDS + 1, HEAD_SECONDS + 1):
            time.sleep(pause)
            client.sendall(WHO + b"\r\n")
            assert read_answer(client)[0].startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_second_head_has_its_own_limit(server: Server) -> None:
    """What came with the request before counts as begun."""
    with server.connect() as client:
        client.sendall(WHO + b"\r\n" + WHO)
        read_answer(client)
        begun = time.monotonic()
        assert read_all(client) == b""
        assert time.monotonic() - begun < HEAD_SECONDS + 8


def test_two_requests_at_once_are_answered_in_turn(server: Server) -> None:
    with server.connect() as client:
        client.sendall(WHO + b"\r\n" + WHO + b"Connection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 2


def test_whoever_waits_longest_makes_room_for_newcomers(narrow: Server) -> None:
    with ExitStack() as ends:
        silent = [ends.enter_context(narrow.connect()) for _ in range(CONNECTIONS)]
        kept = ends.enter_context(narrow.connect())
        kept.sendall(WHO + b"\r\n")
        begun = time.monotonic()
        read_answer(kept)
        slow = [ends.enter_context(narrow.connect()) for _ in range(CONNECTIONS)]
        for client in slow:
            client.sendall(WHO + b"X-Slow: ")
        assert narrow.get("/health").status == 200
        assert time.monotonic() - begun < HEAD_SECONDS
        # The first ones had to go, and nobody else.
        assert read_all(silent[0]) == b""
        slow[-1].sendall(b"1\r\n\r\n")
        assert read_answer(slow[-1])[0].startswith(b"HTTP/1.1 200")


def test_who_takes_nothing_makes_room_too(narrow: Server) -> None:
    with ExitStack() as ends:
        for _ in range(CONNECTIONS * 2):
            client = ends.enter_context(narrow.connect())
            client.sendall(b"GET /stream/5000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert narrow.get("/health").status == 200
    assert errors(narrow) == []


def held_for(client: socket.socket) -> int:
    """Return how many bytes the kernel holds on the server's side of a connection (proc(5))."""
    ends = [f":{port:04X}" for port in (client.getpeername()[1], client.getsockname()[1])]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        _, here, there, _, queues, *_ = line.split()
        if here.endswith(ends[0]) and there.endswith(ends[1]):
            return int(queues.partition(":")[0], 16)
    raise AssertionError("the connection has ended")


def test_the_kernel_holds_little_for_who_takes_nothing(server: Server) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /stream/500 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(SEND_SECONDS / 2)
        assert 0 < held_for(client) < 4 * UNSENT_BYTES


def test_sixty_each_of_slow_heads_bodies_and_readers_keep_nobody_waiting(tmp_path: Path) -> None:
    # The application itself, whose limits are the real ones.
    with serving(tmp_path, app=None) as server:

        def usual() -> float:
            waits = []
            for _ in range(30):
                begun = time.monotonic()
                assert server.get("/health").status == 200
                waits.append(time.monotonic() - begun)
                time.sleep(0.02)
            return median(waits)

        calm = usual()
        with attacked(server.port, 60):
            # Many times what it takes anyhow: the machine may be busy with other tests.
            assert usual() < max(0.2, 5 * calm)
