"""SIGHUP takes up new settings with new workers, or says why not and leaves all as it was."""

import base64
import json
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests import canaries
from tests.database import Databases, variables
from tests.server.serving import (
    NO_DATABASE,
    ROOT,
    Server,
    read_all,
    read_answer,
    serving,
    wait_until,
)

# What gunicorn needs of the project.
PARTS = ("app", "config", "migrations", "setup.cfg", "wsgi.py", "gunicorn.conf.py")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the project, whose files may be changed."""
    root = tmp_path / "project"
    root.mkdir()
    for part in PARTS:
        source = ROOT / part
        copy: Callable[..., Any] = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, root / part)
    return root


def hang_up(server: Server) -> dict[str, Any]:
    """Send SIGHUP, and return the line that says what came of it."""

    def told() -> list[dict[str, Any]]:
        return server.lines("reloaded") + server.lines("reload_refused")

    known = len(told())
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(told()) > known)
    return max(told(), key=lambda line: str(line["timestamp"]))


def numbers(server: Server, bearer: str) -> int:
    """Return how a scrape with this token is answered."""
    return server.get("/metrics", Authorization=f"Bearer {bearer}").status


@pytest.mark.usefixtures("traced")
def test_new_settings_count_for_new_workers_and_bad_ones_for_nobody(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-of-all")
    with serving(tmp_path, APP_METRICS_TOKEN="", APP_METRICS_TOKEN_FILE=str(file)) as server:
        before = server.workers()
        assert numbers(server, "first-of-all") == 200

        file.write_text("second-to-none")
        assert hang_up(server)["changed"] == ["metrics_token"]
        wait_until(lambda: before[0] not in server.workers())
        assert [numbers(server, each) for each in ("first-of-all", "second-to-none")] == [401, 200]
        assert "second-to-none" not in server.text()

        before = server.workers()
        file.write_text("not visible: \x07")
        refusal = hang_up(server)
        assert (refusal["event"], refusal["level"]) == ("reload_refused", "error")
        (problem,) = refusal["problems"]
        assert "APP_METRICS_TOKEN_FILE" in problem
        assert server.workers() == before
        # A worker that has to be replaced later gets the settings that were good.
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: before[0] not in server.workers())
        assert numbers(server, "second-to-none") == 200
        assert server.process.poll() is None


def test_the_files_of_settings_are_read_anew(copied: Path, tmp_path: Path) -> None:
    file = copied / "config/test.toml"
    original = file.read_text()
    given = {"APP_SERVER_WORKERS": "", "APP_LOG_LEVELS": ""}

    def change(*, server: str = "", log: str = "") -> None:
        file.write_text(original.replace("[log]", f"[server]\n{server}\n[log]\n{log}"))

    change(server="workers = 1")
    with serving(tmp_path, app=None, root=copied, **given) as server:
        first = server.workers()
        change(server="workers = 2", log="levels = { 'app.platform.edge' = 'error' }")
        assert hang_up(server)["event"] == "reloaded"
        wait_until(lambda: len(server.workers()) == 2 and first[0] not in server.workers())
        known = len(server.lines("request"))
        assert server.get("/api/v1/users/me").status == 401
        assert len(server.lines("request")) == known

        before = server.workers()
        change(server="workers = 2\nport = 1\nhost = 'nowhere'\ndrain_seconds = 59")
        (problem,) = hang_up(server)["problems"]
        assert "APP_SERVER_HOST" in problem
        change(server="workers = 2\ndrain_seconds = 59")
        (problem,) = hang_up(server)["problems"]
        assert "APP_SERVER_DRAIN_SECONDS" in problem
        change(server="none_such = 2")
        assert "none_such" in " ".join(hang_up(server)["problems"])
        assert server.workers() == before

        # Code isn't taken up, but what makes the application is run again.
        change(server="workers = 2")
        (copied / "wsgi.py").write_text("raise RuntimeError('canary-message')")
        (problem,) = hang_up(server)["problems"]
        assert "RuntimeError" in problem
        assert "canary-message" not in server.text()
        assert server.workers() == before
        assert server.get("/health").status == 200


@pytest.mark.usefixtures("traced")
def test_settings_with_which_no_worker_would_be_ready_are_refused(
    tmp_path: Path, databases: Databases
) -> None:
    keys, url = tmp_path / "keys", tmp_path / "url"
    good = "1:" + base64.b64encode(secrets.token_bytes(32)).decode()
    other = "1:" + base64.b64encode(secrets.token_bytes(32)).decode()
    canaries.watch(good, other)
    with databases.fresh() as one, databases.fresh() as two:
        keys.write_text(good)
        url.write_text(one.database_url)
        given = variables(one) | {
            "APP_AUTH_MASTER_KEYS_FILE": str(keys),
            "APP_DATABASE_URL": "",
            "APP_DATABASE_URL_FILE": str(url),
        }
        with serving(tmp_path, app=None, **given) as server:
            assert server.get("/ready").status == 200
            before = server.workers()

            keys.write_text(other)
            (problem,) = hang_up(server)["problems"]
            assert problem.startswith("A worker wouldn't be ready with them: keys")
            keys.write_text(good)
            url.write_text(NO_DATABASE)
            problems = hang_up(server)["problems"]
            assert problems[0] == ("A worker wouldn't be ready with them: database is unreachable.")
            assert server.workers() == before
            assert server.get("/ready").status == 200

            url.write_text(two.database_url)
            assert "database_url" in hang_up(server)["changed"]
            wait_until(lambda: before[0] not in server.workers())
            name = make_url(one.database_url).database
            databases.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", str(name))
            assert server.get("/ready").status == 200


def test_a_database_that_is_away_is_no_fault_of_new_settings(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-of-all")
    given = {"APP_METRICS_TOKEN_FILE": str(file)}
    with serving(tmp_path, **given) as server:
        assert server.get("/ready").json["checks"]["database"] == "unreachable"
        file.write_text("second-to-none")
        assert hang_up(server)["event"] == "reloaded"


def test_a_connection_that_idles_during_a_reload_is_still_answered(tmp_path: Path) -> None:
    who = b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"
    given = {"APP_SERVER_DRAIN_SECONDS": "15"}
    with serving(tmp_path, **given) as server, server.connect() as one, server.connect() as two:
        for client in (one, two):
            client.sendall(who)
            read_answer(client)
        (old,) = server.workers()
        assert hang_up(server)["event"] == "reloaded"
        wait_until(lambda: server.get("/who").json["pid"] != old)
        time.sleep(1)
        one.sendall(who)
        head, body = read_answer(one)
        assert (json.loads(body)["pid"], b"Connection: close" in head) == (old, True)
        # The service stays, whatever a worker does.
        assert server.get("/ready").json["checks"].get("service") is None
        # Nobody waits for the other one once everything stops, not even the master for balancers.
        server.process.send_signal(signal.SIGINT)
        assert read_all(two) == b""
        server.process.wait(8)


def test_a_stop_is_heard_while_a_reload_waits_for_a_long_request(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as client:
        client.sendall(b"GET /stream/400 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.recv(1)
        reader = threading.Thread(target=read_all, args=(client,))
        reader.start()
        (old,) = server.workers()
        assert hang_up(server)["event"] == "reloaded"
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Handling signal: term" in server.text(), seconds=3)
        assert old in server.workers()
        reader.join()
        server.process.wait()
        assert server.process.returncode == 0
