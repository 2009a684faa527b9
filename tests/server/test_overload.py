"""What happens while too many wait for the database: everybody else hears so at once."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from app import configure, create_app
from app.platform.overload import PAUSE_SECONDS, WINDOW_SECONDS
from app.platform.security_headers import SECURITY_HEADERS
from app.platform.settings import Settings
from app.platform.turns import ENOUGH
from tests import people, tracing
from tests.database import Databases, pool_on, variables
from tests.scraped import samples
from tests.server.serving import Server, read_all, read_answer, serving, wait_until

CONNECTIONS = 2
PAGE = "https://shop.example"
ME = b"GET /api/v1/users/me HTTP/1.1\r\nHost: localhost\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nContent-Type: application/json\r\n"


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """A server whose database holds everybody up, and those who wait there."""

    server: Server
    me: bytes
    waiting: list[socket.socket]

    def refused(self) -> tuple[bytes, bytes]:
        """Return head and body of what a newcomer gets."""
        with self.server.connect() as client:
            client.sendall(self.me)
            return read_answer(client)


@pytest.fixture(scope="module")
def bank(databases: Databases, settings: Settings, pool: None) -> Iterator[tuple[Settings, str]]:
    """The settings of a database of its own, and a token of the user in it."""
    with databases.fresh(APP_LOG_LEVEL="info") as fresh:
        with pool_on(fresh, instead_of=settings):
            token = people.make_user(create_app(fresh)).token
        configure(settings)
        yield fresh, token


def given(bank: Settings) -> dict[str, str]:
    own = {
        "APP_AUTH_ISSUER": bank.auth_issuer,
        "APP_DATABASE_MAX_CONNECTIONS": str(CONNECTIONS),
        "APP_DATABASE_ACQUIRE_TIMEOUT": "20",
        "APP_CORS_ORIGINS": PAGE,
    }
    return variables(bank) | tracing.variables() | own


@pytest.fixture(scope="module")
def live(bank: tuple[Settings, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("crowd"), app=None, **given(bank[0])) as server:
        yield server


@contextmanager
def locked(bank: Settings) -> Iterator[None]:
    """Let nobody read login sessions while the block runs."""
    engine = create_engine(bank.database_migration_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE login_sessions"))
        yield


@pytest.fixture
def crowd(bank: tuple[Settings, str], live: Server) -> Iterator[Crowd]:
    """So many who wait that the next one is refused; they are let go at the end."""
    me = ME + b"Authorization: Bearer " + bank[1].encode() + b"\r\n\r\n"
    with ExitStack() as ends, locked(bank[0]):
        waiting: list[socket.socket] = []
        while not (waiting and is_readable(waiting[-1])):
            assert len(waiting) < 60
            waiting.append(ends.enter_context(live.connect()))
            waiting[-1].sendall(me)
            time.sleep(2 * WINDOW_SECONDS)
        assert len(waiting) > CONNECTIONS + ENOUGH
        yield Crowd(server=live, me=me, waiting=waiting)
    wait_until(lambda: exchange(live, me).startswith(b"HTTP/1.1 200"))


def is_readable(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.settimeout(20)


def exchange(server: Server, request: bytes) -> bytes:
    """Return the whole answer to one request, whose connection is then closed."""
    with server.connect() as client:
        client.sendall(request)
        return b"\r\n\r\n".join(read_answer(client))


@contextmanager
def clients_of(
    bank: tuple[Settings, str], folder: Path, *, unread: int
) -> Iterator[tuple[Server, bytes, list[socket.socket]]]:
    """A server that knows of no crowd, a request, and clients of whom so many will wait unread."""
    me = ME + b"Authorization: Bearer " + bank[1].encode() + b"\r\n\r\n"
    alone = given(bank[0]) | {"APP_SERVER_WORKERS": "1"}
    with serving(folder, app=None, **alone) as server, ExitStack() as ends:
        count = CONNECTIONS + ENOUGH + unread
        clients = [ends.enter_context(server.connect()) for _ in range(count)]
        # The user's limit is looked up for ten requests, and nobody waits for that below.
        assert exchange(server, me).startswith(b"HTTP/1.1 200")
        yield server, me, clients


def test_who_waits_unread_is_answered_once_there_is_room(
    bank: tuple[Settings, str], tmp_path: Path
) -> None:
    with clients_of(bank, tmp_path, unread=2) as (server, me, clients):
        with locked(bank[0]):
            for client in clients:
                client.sendall(me)
            time.sleep(PAUSE_SECONDS)
            assert server.get("/health").status == 200
        for client in clients:
            assert read_answer(client)[0].startswith(b"HTTP/1.1 200")
        shown = samples(server.get("/metrics").body.decode())
        assert shown["overload_wait_seconds_count"] == 2
        assert shown["overload_refusals_total"] == 0
        # What a client waits for is the whole of it.
        lines = [line for line in server.lines("request") if line["route"] == "/api/v1/users/me"]
        took = [line["duration_ms"] for line in lines[1:]]
        assert len(took) == len(clients)
        assert min(took) > PAUSE_SECONDS * 1000


def test_whoever_waits_unread_is_refused_with_an_end_once_the_service_stops(
    bank: tuple[Settings, str], tmp_path: Path
) -> None:
    with clients_of(bank, tmp_path, unread=1) as (server, me, clients), locked(bank[0]):
        for client in clients:
            client.sendall(me)
        time.sleep(PAUSE_SECONDS)
        server.process.terminate()
        head, _ = read_answer(clients[-1])
        assert head.startswith(b"HTTP/1.1 503")
        assert b"Connection: close" in head


def test_a_newcomer_is_refused_at_once_like_by_every_other_error(crowd: Crowd) -> None:
    begun = time.monotonic()
    head, body = crowd.refused()
    # A tenth of a second; the rest is for a machine that is busy with other tests.
    assert time.monotonic() - begun < 1
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    error = json.loads(body)["error"]
    assert error["code"] == "OVERLOADED"
    assert headers["X-Request-Id"] == error["request_id"]
    assert len(error["request_id"]) == 32
    assert (headers["Retry-After"], headers["Cache-Control"]) == ("1", "no-store")
    assert headers["Content-Type"] == "application/json"
    assert set(SECURITY_HEADERS) <= set(headers.items())
    assert json.loads(crowd.refused()[1])["error"]["request_id"] != error["request_id"]
    wait_until(lambda: crowd.server.lines("overloaded"))
    assert crowd.server.lines("overloaded")[0]["refused"] > 0


def test_the_connection_of_a_refused_request_serves_the_next_one(crowd: Crowd) -> None:
    with crowd.server.connect() as client:
        for _ in range(2):
            client.sendall(crowd.me)
            assert read_answer(client)[0].startswith(b"HTTP/1.1 503")
        client.sendall(HEALTH)
        assert read_answer(client)[0].startswith(b"HTTP/1.1 200")
        client.sendall(crowd.me.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"Connection: close" in read_all(client)


def test_health_is_answered_in_a_crowd(crowd: Crowd) -> None:
    assert crowd.server.get("/health").status == 200
    assert crowd.server.get("/metrics").status in {200, 404}


def test_a_page_with_an_id_gets_the_same_on_either_way(crowd: Crowd) -> None:
    asked = ME + f"Origin: {PAGE}\r\nX-Request-Id: mine\r\n".encode()
    heads = []
    for accept in (b"Accept: */*", b"Accept: application/problem+json"):
        with crowd.server.connect() as client:
            client.sendall(asked + accept + b"\r\n\r\n")
            head, body = read_answer(client)
        assert head.startswith(b"HTTP/1.1 503")
        assert b'"request_id":"mine"' in body
        assert f"Access-Control-Allow-Origin: {PAGE}".encode() in head
        heads.append(set(head.split(b"\r\n")[1:]))
    # Only the second was read, by gunicorn, which adds these.
    assert not [line for line in heads[0] if line.startswith(b"Date:")]
    differing = {line.split(b":")[0].lower() for line in heads[0] ^ heads[1]}
    assert differing == {b"content-type", b"content-length", b"date", b"server"}


def test_what_is_unusual_is_refused_on_the_ordinary_way(crowd: Crowd) -> None:
    problem = exchange(crowd.server, ME + b"Accept: application/problem+json\r\n\r\n")
    assert b"application/problem+json" in problem
    with crowd.server.connect() as client:
        client.sendall(ME)
        time.sleep(0.1)
        client.sendall(b"\r\n")
        assert read_answer(client)[0].startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 100"])
def test_a_request_in_the_unread_body_of_another_gets_no_answer(
    crowd: Crowd, framing: bytes
) -> None:
    with crowd.server.connect() as client:
        client.sendall(LOGIN + b"Host: localhost\r\n" + framing + b"\r\n\r\n")
        head, _ = read_answer(client)
        assert head.startswith(b"HTTP/1.1 503")
        assert b"Connection: close" in head
        client.sendall(HEALTH)
        assert read_all(client) == b""


def test_a_body_that_comes_after_its_head_is_part_of_what_is_refused_unread(crowd: Crowd) -> None:
    with crowd.server.connect() as client:
        for _ in range(2):
            client.sendall(LOGIN + b"Host: localhost\r\nContent-Length: 2\r\n\r\n")
            time.sleep(PAUSE_SECONDS / 4)
            client.sendall(b"{}")
            head, _ = read_answer(client)
            assert head.startswith(b"HTTP/1.1 503")
            assert b"Connection: close" not in head


def test_nobody_goes_ahead_behind_another_request(crowd: Crowd) -> None:
    with crowd.server.connect() as client:
        client.sendall(HEALTH + crowd.me)
        assert read_answer(client)[0].startswith(b"HTTP/1.1 200")
        assert read_answer(client)[0].startswith(b"HTTP/1.1 503")


def test_nor_does_one_that_goes_on_with_a_head_that_has_begun(crowd: Crowd) -> None:
    with crowd.server.connect() as client:
        client.sendall(HEALTH + b"GET /health HTTP/1.1\r\nX-Begun: ")
        assert read_answer(client)[0].startswith(b"HTTP/1.1 200")
        client.sendall(crowd.me)
        assert read_answer(client)[0].startswith(b"HTTP/1.1 200")


def test_nor_does_one_in_the_body_of_a_request_for_another_host(live: Server) -> None:
    with live.connect() as client:
        client.sendall(LOGIN + b"Host: evil.example\r\nContent-Length: 100\r\n\r\n")
        head, _ = read_answer(client)
        assert head.startswith(b"HTTP/1.1 400")
        client.sendall(HEALTH)
        assert read_all(client) == b""


def test_who_waits_is_answered_once_the_database_is_free(
    bank: tuple[Settings, str], live: Server
) -> None:
    me = ME + b"Authorization: Bearer " + bank[1].encode() + b"\r\n\r\n"
    with ExitStack() as ends:
        with locked(bank[0]):
            waiting = [ends.enter_context(live.connect()) for _ in range(6)]
            for client in waiting:
                client.sendall(me)
            time.sleep(0.3)
        for client in waiting:
            assert read_answer(client)[0].startswith(b"HTTP/1.1 200")
