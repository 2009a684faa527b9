"""What happens before the first request: checks, the bind, a database that isn't there yet."""

import base64
import json
import resource
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from tests.database import Databases, variables
from tests.network import free_port
from tests.server.serving import (
    PATIENCE,
    ROOT,
    command,
    environment,
    serving,
    wait_until,
)

PRODUCTION = {
    "APP_ENV": "production",
    "APP_PUBLIC_URL": "https://bursar.example.com",
    "APP_AUTH_MASTER_KEYS": "1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    "APP_SERVER_HOST": "127.0.0.1",
}


def start(folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """Run gunicorn until it ends by itself."""
    return subprocess.run(
        command(app="tests.server.small:app"),
        cwd=ROOT,
        env=environment(folder, **given),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.usefixtures("traced")
def test_all_wrong_settings_are_told_at_once_before_the_bind(tmp_path: Path) -> None:
    # The port is taken: gunicorn would complain about that if it came so far.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(
            tmp_path, APP_SERVER_PORT=port, APP_SERVER_WORKERS="none", APP_LOG_LEVEL="loud"
        )
    assert ended.returncode == 78
    assert "APP_SERVER_WORKERS" in ended.stdout
    assert "APP_LOG_LEVEL" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert "in use" not in ended.stdout


@pytest.mark.usefixtures("traced")
def test_in_production_the_problems_are_one_line_of_json(tmp_path: Path) -> None:
    short = "too-short-to-sign"
    ended = start(
        tmp_path,
        APP_ENV="production",
        APP_AUTH_JWT_ALGORITHM="HS256",
        APP_AUTH_JWT_SECRET=short,
        APP_SERVER_PORT="0",
    )
    assert ended.returncode == 78
    line = json.loads(ended.stdout)
    assert ended.stderr == ""
    assert (line["event"], line["level"]) == ("settings_refused", "critical")
    assert {"timestamp", "logger", "service", "version"} < line.keys()
    told = " ".join(line["problems"])
    assert "APP_SERVER_PORT" in told
    assert "APP_AUTH_JWT_SECRET" in told
    assert short not in ended.stdout


@pytest.mark.usefixtures("traced")
def test_more_connections_than_the_database_has_are_refused(
    tmp_path: Path, databases: Databases
) -> None:
    with databases.fresh() as settings:
        given = variables(settings) | PRODUCTION
        ended = start(tmp_path, **given, APP_DATABASE_MAX_CONNECTIONS="1000")
    assert ended.returncode == 78
    (problem,) = json.loads(ended.stdout)["problems"]
    assert "APP_DATABASE_MAX_CONNECTIONS" in problem


def test_it_waits_for_its_database_and_finds_it(tmp_path: Path, databases: Databases) -> None:
    port = free_port()
    with databases.fresh() as settings:
        url = make_url(settings.database_url)
        away = url.set(host="127.0.0.1", port=port, query={})
        given = {"APP_DATABASE_URL": away.render_as_string(hide_password=False)}
        with serving(tmp_path, **given) as server:
            assert server.get("/health").status == 200
            refused = server.get("/ready")
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "1"
            assert refused.json["checks"]["database"] == "unreachable"
            assert b"database_ones" not in server.get("/metrics").body
            with relay(port, settings.database_url):
                wait_until(lambda: server.get("/ready").status == 200)
                checks = server.get("/ready").json["checks"]
                assert checks == {"database": "ok", "migrations": "ok", "driver": "ok"}
                wait_until(lambda: b"database_ones 1.0" in server.get("/metrics").body)
            wait_until(lambda: server.get("/ready").status == 503)
            assert server.get("/health").status == 200


@pytest.mark.usefixtures("traced")
def test_a_database_that_says_nothing_is_slow_and_holds_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://nobody:nothing@127.0.0.1:{silent.getsockname()[1]}/nothing"
        with serving(tmp_path, APP_DATABASE_URL=url) as server:
            began = time.monotonic()
            refused = server.get("/ready")
            assert (refused.status, refused.json["checks"]["database"]) == (503, "slow")
            assert 1 <= time.monotonic() - began < 2
            assert server.get("/health").status == 200
            # A scrape does without what it doesn't get within a second.
            began = time.monotonic()
            scraped = server.get("/metrics")
            assert time.monotonic() - began < 2
            assert (scraped.status, b"database_ones" in scraped.body) == (200, False)


@pytest.mark.usefixtures("traced")
def test_a_database_that_was_never_migrated_is_not_ready(
    tmp_path: Path, databases: Databases
) -> None:
    with (
        databases.unmigrated() as settings,
        serving(tmp_path, APP_DATABASE_URL=settings.database_url) as server,
    ):
        assert server.get("/ready").json["checks"]["migrations"] == "behind"


@contextmanager
def relay(port: int, database_url: str) -> Iterator[None]:
    """Forward a local port to the database, until the block ends."""
    url = make_url(database_url)
    folder = str(url.query.get("host") or url.host or "")
    target = (
        f"{folder}/.s.PGSQL.{url.query.get('port') or url.port or 5432}"
        if folder.startswith("/")
        else (folder, url.port or 5432)
    )
    opened: list[socket.socket] = []

    def forward(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
            server = socket.socket(family)
            server.connect(target)
            opened.extend([client, server])
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=forward, args=(source, sink), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in opened:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
            finally:
                each.close()


@pytest.mark.usefixtures("traced")
def test_the_metrics_have_an_address_of_their_own(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, APP_METRICS_BIND=f"127.0.0.1:{port}") as server:
        assert server.get("/metrics").status == 404
        found = server.get("/metrics", port=port)
        assert found.status == 200
        assert found.headers["Content-Type"].startswith("text/plain")
        # Nothing else is there but the probes.
        assert server.get("/who", port=port).status == 404
        assert server.get("/health", port=port).status == 200


def test_a_worker_may_open_files_for_all_its_connections(tmp_path: Path) -> None:
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    try:
        with serving(tmp_path) as server:
            allowed, _ = psutil.Process(server.workers()[0]).rlimit(psutil.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
    assert allowed == 2500


def test_nothing_warns_about_a_late_patch(tmp_path: Path) -> None:
    with serving(tmp_path, app=None) as server:
        server.get("/api/v1/users/me")
        server.stop()
        assert "MonkeyPatchWarning" not in server.text()
        assert [line for line in server.text().splitlines() if '"level":"warning"' in line] == []


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("broken", ["raise RuntimeError('canary')", "def :"])
def test_in_development_a_mistake_is_survived_and_a_change_loaded(
    tmp_path: Path, broken: str
) -> None:
    module = tmp_path / "changing.py"
    works = (
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '1')])\n"
        "    return [b'%s']\n"
    )
    module.write_text(works % "1")
    given = {"APP_ENV": "development", "APP_LOG_FORMAT": "pretty"}
    options = (f"--pythonpath={tmp_path}", f"--reload-extra-file={module}")
    with serving(tmp_path, *options, app="changing:app", **given) as server:
        assert server.get("/").body == b"1"
        with server.connect() as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            module.write_text(broken)
            wait_until(lambda: server.get("/").status == 500)
            module.write_text(works % "2")
            wait_until(lambda: server.get("/").body == b"2")
        assert server.process.poll() is None
