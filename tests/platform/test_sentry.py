"""What reaches Sentry, read from a real HTTP receiver: the error, and nothing of anybody's data."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.platform import sentry
from tests.sentry_receiver import Received, receiving
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


@pytest.fixture
def received() -> Iterator[Received]:
    with receiving() as server:
        yield server


@pytest.mark.usefixtures("traced")
def test_no_canary_reaches_sentry(received: Received, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SERVICE],
        cwd=ROOT,
        env=environment(
            tmp_path,
            APP_SENTRY_DSN=received.dsn,
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
    (event,) = received.events()
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
