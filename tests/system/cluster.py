"""The shape for many machines: three servers behind HAProxy, two workers, PgBouncer, a replica.

All of it on loopback, from the files in deploy/ wherever there is one. Two servers and one worker
go through PgBouncer; the others know both PostgreSQL servers by name.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from app.platform import migrations
from app.platform.settings import Settings, load_settings
from tests import people
from tests.chaos import checks
from tests.chaos.clients import Client
from tests.chaos.stage import fill
from tests.chaos.writes import Acknowledged, Drawer
from tests.database import variables
from tests.network import free_port
from tests.people import TestUser
from tests.server.serving import Server, serving, wait_until
from tests.system import debian
from tests.system.external_postgres import PASSWORDS, url_of
from tests.system.http import answer, wait_for
from tests.system.redis_server import RedisServer
from tests.system.replicated_postgres import DEPLOY, Pair, replicated_postgres
from tests.worker.working import Worker, working

CLIENTS, USERS = 8, 20


@dataclass
class Pooler:
    """PgBouncer with the configuration of deploy/, to be killed, or told of a new primary."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, database_port: int) -> None:
        """Start it before the PostgreSQL on that port."""
        self._write(database_port)
        # It refuses to run as root; PostgreSQL's user will do.
        identity: dict[str, Any] = {}
        if os.getuid() == 0:
            identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
        command = [debian.pgbouncer(), "--quiet", f"{self.folder}/pgbouncer.ini"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **identity)

    def lead_to(self, database_port: int) -> None:
        """Lead to another server, as an operator does after a failover."""
        self._write(database_port)
        self.end(signal.SIGHUP)

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, and wait for its end when it is the last one."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def _write(self, database_port: int) -> None:
        here = {
            "host=postgres port=5432": f"host=127.0.0.1 port={database_port}",
            "listen_addr = 0.0.0.0": "listen_addr = 127.0.0.1",
            "listen_port = 6432": f"listen_port = {self.port}",
            "/etc/pgbouncer": str(self.folder),
        }
        text = _placed("pgbouncer/pgbouncer.ini", here)
        (self.folder / "pgbouncer.ini").write_text(text)
        password = PASSWORDS["BURSAR_APP_PASSWORD"]
        (self.folder / "userlist.txt").write_text(f'"bursar_app" "{password}"\n')


@dataclass(kw_only=True)
class Cluster:
    """All of it; each part can be killed."""

    postgres: Pair
    pooler: Pooler
    redis: RedisServer
    pooled: Settings
    direct: Settings
    servers: list[Server]
    workers: list[Worker]
    balancer: int
    users: list[TestUser]
    staff: str
    sku: str
    acknowledged: list[Acknowledged] = field(default_factory=list)

    @contextmanager
    def busy(self) -> Iterator[list[Client]]:
        """Let clients write until the block ends, and then hold them against the database."""
        seed, enough = len(self.acknowledged), threading.Event()
        drawers = [Drawer(self.users, self.staff, self.sku, f"{seed} {i}") for i in range(CLIENTS)]
        clients = [Client(self.balancer, drawer) for drawer in drawers]
        with ThreadPoolExecutor(CLIENTS) as threads:
            runs = [threads.submit(client.run, enough) for client in clients]
            try:
                yield clients
            finally:
                enough.set()
            for run in runs:
                run.result()
        assert [what for client in clients for what in client.unexpected] == []
        self.acknowledged += [one for client in clients for one in client.acknowledged]
        assert list(checks.stored(self.postgres.writable.ask, self.acknowledged)) == []

    def made(self, clients: list[Client], since: float = 0) -> int:
        """Return how much was acknowledged so far, or since a moment."""
        return sum(one.at > since for client in clients for one in list(client.acknowledged))

    def until_made(self, clients: list[Client], many: int, *, after: float | None = None) -> None:
        """Wait until so much was acknowledged, or so much more from some seconds after this."""
        since = 0 if after is None else time.monotonic() + after
        wait_until(lambda: self.made(clients, since) >= many, seconds=60)

    def sign_up(self, many: int) -> None:
        """Ask for mails, through the balancer."""
        for _ in range(many):
            email = f"{os.urandom(8).hex()}@example.org"
            body = {"email": email, "name": "Ada", "password": people.PASSWORD}
            url = f"http://127.0.0.1:{self.balancer}/api/v1/users"
            wait_until(partial(_created, url, body))

    def mails(self) -> set[str]:
        """Return how far the mails have come, all of them."""
        return {state for (state,) in self.postgres.writable.ask("SELECT state FROM mails")}


def _created(url: str, body: dict[str, str]) -> bool:
    # While a part is away it is asked for again; a user who exists by then is no other one.
    try:
        return answer(url, body)[0] in (201, 409)
    except (TimeoutError, ValueError):
        # HAProxy's own refusals aren't JSON.
        return False


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start everything, with users who hold credits, and end it when the block does."""
    with ExitStack() as running:
        folder = running.enter_context(_folder())
        postgres = running.enter_context(replicated_postgres())
        pooler, redis = Pooler(folder), RedisServer(folder)
        redis.start()
        running.callback(redis.end)
        pooler.start(postgres.primary.port)
        running.callback(lambda: pooler.end())
        direct = _settings(folder, postgres, postgres.url("bursar_app"))
        role, password = "bursar_app", PASSWORDS["BURSAR_APP_PASSWORD"]
        pooled = _settings(folder, postgres, url_of(role, password, pooler.port), pooler="true")
        migrations.upgrade(pooled)
        users, staff, sku = fill(pooled, users=USERS)
        servers, workers = _start(
            running, folder, redis, [pooled, pooled, direct], direct.auth_issuer
        )
        balancer = running.enter_context(_balancing(folder, servers))
        yield Cluster(
            postgres=postgres,
            pooler=pooler,
            redis=redis,
            pooled=pooled,
            direct=direct,
            servers=servers,
            workers=workers,
            balancer=balancer,
            users=users,
            staff=staff,
            sku=sku,
        )


def _settings(folder: Path, postgres: Pair, url: str, *, pooler: str = "false") -> Settings:
    return load_settings(
        {
            "APP_ENV": "test",
            "APP_DATA_DIR": str(folder / "data"),
            "APP_DATABASE_URL": url,
            "APP_DATABASE_MIGRATION_URL": postgres.url("bursar_owner"),
            "APP_DATABASE_POOLER": pooler,
            "APP_LOG_LEVEL": "info",
        }
    )


def _start(
    running: ExitStack, folder: Path, redis: RedisServer, through: list[Settings], issuer: str
) -> tuple[list[Server], list[Worker]]:
    """Start a server on each of the ways to the database, and a worker on the first and last."""
    more = {
        "APP_AUTH_ISSUER": issuer,
        "APP_DATABASE_MAX_CONNECTIONS": "8",
        "APP_LOG_LEVEL": "info",
        "APP_RATE_LIMIT_ENABLED": "true",
        "APP_RATE_LIMIT_STORAGE_URL": redis.url,
        "APP_RATE_LIMIT_USER_PER_MINUTE": "1000000",
        "APP_SERVER_TRUSTED_PROXIES": "1",
    }

    workers = [
        running.enter_context(working(settings, folder, wait=False, APP_LOG_LEVEL="info"))
        for settings in (through[0], through[-1])
    ]
    servers = [
        running.enter_context(serving(folder, app=None, **variables(settings) | more))
        for settings in through
    ]
    for worker in workers:
        worker.until("worker_started", patience=60)
    return servers, workers


@contextmanager
def _balancing(folder: Path, servers: list[Server]) -> Iterator[int]:
    """Run HAProxy before the servers; give its port."""
    port = free_port()
    lines = [f"server web{i} 127.0.0.1:{each.port}" for i, each in enumerate(servers)]
    here = {
        "bind 0.0.0.0:8080": f"bind 127.0.0.1:{port}",
        "server-template web 8 web:3000 resolvers names init-addr none": "\n    ".join(lines),
    }
    config = folder / "haproxy.cfg"
    config.write_text(_placed("haproxy/cluster.cfg", here))
    process = subprocess.Popen([debian.haproxy(), "-q", "-db", "-f", str(config)])
    try:
        wait_for(f"http://127.0.0.1:{port}/ready", 200)
        yield port
    finally:
        process.kill()
        process.wait()


def _placed(name: str, here: dict[str, str]) -> str:
    """Return a file of deploy/ with our addresses in the place of its own."""
    text = (DEPLOY / name).read_text()
    for theirs, ours in here.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


@contextmanager
def _folder() -> Iterator[Path]:
    # PgBouncer runs as another user, who must be able to pass.
    folder = Path(tempfile.mkdtemp(prefix="bursar-cluster-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
