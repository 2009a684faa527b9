"""Sets up what is measured: a database with people in it, the service, and the yardstick."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from app import create_app
from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres, urls
from app.platform.embedded_postgres.programs import programs
from app.platform.processes import end_with_parent
from app.platform.settings import PROJECT_ROOT, load_settings
from benchmarks.people import People, fill

PATIENCE_SECONDS = 30.0
# For the buyers of `pgbench`, each of whom has a connection.
ROOM = {"max_connections": "250"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything that runs: two servers on one core, their database, and the people in it."""

    service: str
    service_pid: int
    yardstick: str
    people: People
    pgbench: Path
    pgbench_environ: Mapping[str, str]


def environment(data_dir: Path, port: int) -> dict[str, str]:
    """Return the service's variables: one worker, settings of production, a database of its own."""
    application, owner = urls(data_dir)
    return {
        "APP_ENV": "production",
        "APP_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "APP_SERVER_HOST": "127.0.0.1",
        "APP_SERVER_PORT": str(port),
        "APP_SERVER_WORKERS": "1",
        "APP_DATA_DIR": str(data_dir),
        "APP_DATABASE_URL": application,
        "APP_DATABASE_MIGRATION_URL": owner,
        # Counted as ever, and never used up: all of it comes from one address.
        "APP_RATE_LIMIT_USER_PER_MINUTE": "1000000",
        "APP_RATE_LIMIT_ANONYMOUS_PER_MINUTE": "1000000",
        "APP_AUTH_MASTER_KEYS": f"1:{b64encode(secrets.token_bytes(32)).decode()}",
    }


@contextmanager
def stage(
    data_dir: Path, variables: Mapping[str, str], *, core: int, repetitions: int
) -> Iterator[Stage]:
    """Run both servers on one core and PostgreSQL, which waits for the disk, on this process's.

    Raises EmbeddedPostgresError.
    """
    settings = load_settings(variables)
    database = EmbeddedPostgres.start(data_dir, say=lambda sentence: None, settings=ROOM)
    try:
        migrations.upgrade(settings)
        people = fill(settings, create_app(settings), folder=data_dir, repetitions=repetitions)
        place = make_url(settings.database_url)
        service = f"http://127.0.0.1:{settings.server_port}"
        port = free_port()
        yardstick = f"http://127.0.0.1:{port}"
        asynchronous = place.set(drivername="postgresql+asyncpg")
        with (
            server(
                ["gunicorn"],
                variables,
                address=f"{service}/ready",
                log=data_dir / "service.log",
                core=core,
            ) as pid,
            server(
                ["uvicorn", f"--port={port}", "--no-access-log", "benchmarks.yardstick:app"],
                {
                    "YARDSTICK_DATABASE_URL": asynchronous.render_as_string(hide_password=False),
                    "YARDSTICK_PUBLIC_KEY": people.public_key.hex(),
                    "YARDSTICK_ISSUER": settings.auth_issuer,
                },
                address=f"{yardstick}/docs",
                log=data_dir / "yardstick.log",
                core=core,
            ),
        ):
            yield Stage(
                service=service,
                service_pid=pid,
                yardstick=yardstick,
                people=people,
                pgbench=programs(database.place) / "pgbench",
                pgbench_environ={
                    "PGHOST": str(place.query["host"]),
                    "PGUSER": place.username or "",
                    "PGPASSWORD": place.password or "",
                    "PGDATABASE": place.database or "",
                },
            )
    finally:
        database.stop()


def seconds_to_start(variables: Mapping[str, str]) -> float:
    """Return how long `make run`'s process takes to the first 200 on /ready, database included."""
    own = {
        name: variables[name]
        for name in ("APP_DATA_DIR", "APP_SERVER_PORT", "APP_AUTH_MASTER_KEYS")
    }
    log = Path(variables["APP_DATA_DIR"], "launcher.log")
    address = f"{variables['APP_PUBLIC_URL']}/ready"
    begun = time.perf_counter()
    with server(["app.launcher"], own, address=address, log=log):
        return time.perf_counter() - begun


def worker_pss(master: int) -> float:
    """Return the memory of a master's one worker in MB, shared pages counted by their share."""
    worker = Path(f"/proc/{master}/task/{master}/children").read_text().split()[0]
    rollup = Path(f"/proc/{worker}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(
    module: list[str],
    variables: Mapping[str, str],
    *,
    address: str,
    log: Path,
    core: int | None = None,
) -> Iterator[int]:
    """Run a Python module until the block is left; entered with its pid once the address says 200.

    Raises RuntimeError.
    """
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    # A developer's own settings must not change what is measured.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned, sys.executable, "-m", *module],
            cwd=PROJECT_ROOT,
            env={**clean, **variables},
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent(signal.SIGTERM),
        )
    try:
        _await(address, process, log)
        yield process.pid
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{address} does not answer:\n{log.read_text()[-2000:]}")
