"""Starts real gunicorn with the project's own configuration, and speaks to it byte by byte."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from tests import canaries
from tests.network import free_port

ROOT = Path(__file__).resolve().parents[2]
# Nobody listens there: the server must start without its database.
NO_DATABASE = "postgresql://nobody:nothing@127.0.0.1:1/nothing"
PATIENCE = 20.0


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body's meaning."""
        return json.loads(self.body)


@dataclass
class Server:
    """A running gunicorn, on a port of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    # Standard error, where nothing of ours goes.
    errors: Path

    def get(self, path: str, *, port: int | None = None, **headers: str) -> Answer:
        """Return a whole answer; underscores in header names become hyphens."""
        return ask(port or self.port, path, **headers)

    def connect(self) -> socket.socket:
        """Return a connection to write raw bytes on."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return sorted(
            child.pid for child in psutil.Process(self.process.pid).children() if lives(child)
        )

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Send a signal, and return how many seconds the end took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        return time.monotonic() - began

    def text(self) -> str:
        """Return everything that was logged or printed so far."""
        return self.log.read_text() + self.errors.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event; one that is just being written isn't there yet."""
        whole = [file.read_text().rpartition("\n")[0] for file in (self.log, self.errors)]
        every = [json.loads(line) for text in whole for line in text.splitlines()]
        return [line for line in every if line["event"] == event]


@contextmanager
def serving(
    folder: Path,
    *options: str,
    app: str | None = "tests.server.small:app",
    root: Path = ROOT,
    **variables: str,
) -> Iterator[Server]:
    """Run gunicorn on an application until the block ends, answering from the first moment.

    `root` is the project's folder, or that of a copy with other files. A port that isn't given
    among the variables is a free one.
    """
    port = int(variables.setdefault("APP_SERVER_PORT", str(free_port())))
    log, errors = folder / f"log-{port}", folder / f"errors-{port}"
    with log.open("wb") as output, errors.open("wb") as error_output:
        process = subprocess.Popen(
            command(*options, app=app),
            cwd=root,
            env=environment(folder, **variables),
            stdout=output,
            stderr=error_output,
            # As in a terminal of its own: a test can press Ctrl-C for the whole group.
            start_new_session=True,
        )
    server = Server(process, port, log, errors)
    try:
        wait_until(lambda: answers(server) or process.poll() is not None)
        if process.poll() is not None:
            raise AssertionError(server.text())
        yield server
    finally:
        end(process)
        canaries.hear("a server's log", server.text().encode())


def command(*options: str, app: str | None = None) -> list[str]:
    """Return the command that starts gunicorn."""
    return [sys.executable, "-m", "gunicorn", *options, *([app] if app else [])]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return an environment with only these settings, and what Python itself needs."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("APP_")}
    return kept | {
        "APP_ENV": "test",
        "APP_DATA_DIR": str(folder / "data"),
        "APP_DATABASE_URL": NO_DATABASE,
        "APP_SERVER_WORKERS": "1",
        "APP_LOG_FORMAT": "json",
        **variables,
    }


def ask(port: int, path: str, **headers: str) -> Answer:
    """Return a whole answer; underscores in header names become hyphens."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers(server: Server) -> bool:
    try:
        return server.get("/health").status == 200
    except OSError:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End a master and its workers, whatever state they are in."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()
        process.wait()


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def read_answer(client: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of an answer that has a Content-Length.

    Raises AssertionError when the other side closes before its end.
    """
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(client)
    head, _, body = received.partition(b"\r\n\r\n")
    names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(names[b"content-length"]):
        body += _more(client)
    return head, body


def _more(client: socket.socket) -> bytes:
    data = client.recv(65536)
    assert data, "the answer broke off"
    return data


def wait_until(fact: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    """Wait until something is so.

    Raises AssertionError when it takes too long.
    """
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.05)
