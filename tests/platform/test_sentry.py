"""What reaches Sentry, read from a real HTTP receiver: the error, and nothing of anybody's data."""

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import brotli
import pytest

from app.platform import sentry
from tests.server.serving import environment

ROOT = Path(__file__).resolve().parents[2]
# As in a worker: patched first, started after, the error on its way through Flask and the edge.
SERVICE = """
import sys
from gevent import monkey
monkey.patch_all()
from flask import Flask, request
from werkzeug.test import Client
from app.platform import edge, logging, sentry
from app.platform.errors import Conflict
from app.platform.settings import load_settings
settings = load_settings()
logging.configure(settings)
sentry.start(settings)
app = Flask("service")
app.config["PROPAGATE_EXCEPTIONS"] = True
edge.install(app, settings)

@app.post("/login")
def login():
    password = request.get_json()["password"]
    token = request.headers["Authorization"]
    try:
        {}[password]
    except KeyError as error:
        if "own" in request.args:
            raise Conflict("canary-own-words") from error
        raise ValueError("canary-words " + token) from error

for query in ("?token=canary-query", "?own=canary-query"):
    Client(app).post(
        "/login" + query,
        json={"password": "canary-password", "nested": {"deep": "canary-nested"}},
        headers={
            "Authorization": "Bearer canary-token",
            "Cookie": "bursar_refresh=canary-cookie",
            "X-Request-Id": "the-request-id",
        },
        environ_base={"REMOTE_ADDR": "10.9.8.7"},
    )
sentry.stop(5)
"""


class Received(ThreadingHTTPServer):
    """A stand-in for Sentry that keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Receiver)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        unpack = {"gzip": gzip.decompress, "br": brotli.decompress}.get(
            self.headers.get("Content-Encoding", ""), bytes
        )
        self.server.bodies.append(unpack(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Stay silent."""


@pytest.fixture
def received() -> Iterator[Received]:
    server = Received()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def events(received: Received) -> list[dict[str, Any]]:
    """Return the events among all that was sent; an envelope is lines of JSON."""
    found = []
    for body in received.bodies:
        parts = [json.loads(line) for line in body.splitlines() if line]
        found += [part for part in parts if "exception" in part]
    return found


def test_no_canary_reaches_sentry(received: Received, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SERVICE],
        cwd=ROOT,
        env=environment(
            tmp_path,
            APP_SENTRY_DSN=f"http://key@127.0.0.1:{received.server_address[1]}/1",
            APP_BUILD_COMMIT="abc123",
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    sent = b"".join(received.bodies).decode()
    assert "canary" not in sent
    assert "10.9.8.7" not in sent
    assert "canary" not in ended.stderr
    # An error of our own that reaches the edge is an answer, not something broken.
    (event,) = events(received)
    assert event["tags"] == {"request_id": "the-request-id"}
    assert event["release"].endswith("+abc123")
    assert event["environment"] == "test"
    assert [shown["type"] for shown in event["exception"]["values"]] == ["KeyError", "ValueError"]
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "login"
    assert all("vars" not in frame for frame in frames)


def test_without_an_address_nothing_is_reported() -> None:
    sentry.capture(ValueError("nobody hears"), request_id="r-1")
    sentry.stop(1)
    assert "sentry_sdk" not in sys.modules or not sys.modules["sentry_sdk"].is_initialized()
