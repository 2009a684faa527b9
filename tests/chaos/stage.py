"""Sets up what chaos is made in: PostgreSQL on a small disk, a proxy before it, web and worker."""

import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

from app import create_app
from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres, urls
from app.platform.settings import PROJECT_ROOT, Settings, load_settings
from tests import people
from tests.chaos.proxy import Proxy
from tests.database import pool_on, variables
from tests.network import free_port
from tests.people import TestUser
from tests.server.serving import Server, serving
from tests.shop import make_product
from tests.worker.working import Worker, working

USERS, CREDITS, PRICE = 40, 100_000, 30
WORKERS = 2
PATIENCE_SECONDS = 30.0
# It holds the database of a run and its log, and filling the rest takes no time.
DISK = "1g"
# A log that is let grow less, for that disk; everything else is as in production.
DATABASE = {"max_wal_size": "256MB"}
# The log's own words at the moment from which connections are accepted.
READY = re.compile(r"^(\S+ \S+) UTC .*database system is ready to accept connections$", re.M)


class Postgres:
    """The server of the run, which may be killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        """Start it, with everything written to disk before it counts."""
        self._data_dir = data_dir
        self._running = self._start()

    @property
    def place(self) -> Any:
        """Return where its files are."""
        return self._running.place

    @property
    def is_running(self) -> bool:
        """Tell whether the server's first process is there."""
        return self._running.is_running()

    def pid(self) -> int:
        """Return the number of the server's first process."""
        return int((self.place.cluster / "postmaster.pid").read_text().split()[0])

    def start_again(self) -> None:
        """Start the server that was killed, and wait until it accepts connections."""
        self._running.stop()
        self._running = self._start()

    def ready_at(self) -> float:
        """Return when this server last began to accept connections, in monotonic seconds."""
        *_, last = READY.findall(self.place.log.read_text(errors="replace"))
        moment = datetime.strptime(last, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
        return moment.timestamp() - time.time() + time.monotonic()

    def starts(self) -> int:
        """Return how often this server has begun to accept connections, after crashes too."""
        return len(READY.findall(self.place.log.read_text(errors="replace")))

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows of a statement of the superuser in the service's database."""
        place = make_url(self._running.superuser_dsn()).set(database="bursar")
        connection = psycopg2.connect(place.render_as_string(hide_password=False))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def wait_until_it_answers(self) -> None:
        """Wait while the server recovers.

        Raises psycopg2.OperationalError when it takes too long.
        """
        given_up_at = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
            except psycopg2.OperationalError:
                if time.monotonic() > given_up_at:
                    raise
                time.sleep(0.05)
            else:
                return

    def end(self) -> None:
        """End the server."""
        self._running.stop(immediate=True)

    def _start(self) -> EmbeddedPostgres:
        return EmbeddedPostgres.start(self._data_dir, say=lambda _: None, settings=DATABASE)


@dataclass(kw_only=True)
class Stage:
    """Everything that runs, and who uses it."""

    settings: Settings
    postgres: Postgres
    proxy: Proxy
    server: Server
    users: list[TestUser]
    staff: str
    sku: str
    # Where the database's files are, if they are on a disk of their own.
    disk: Path | None
    worker: Worker
    more: ExitStack = field(repr=False)
    folder: Path
    worker_ends: int = 0

    def keep_logs(self, name: str) -> Path:
        """Copy what everybody has logged to a folder that stays, and return it."""
        kept = PROJECT_ROOT / "var" / name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        logs = [*self.folder.glob("log-*"), *self.folder.glob("worker-*")]
        for log in (*logs, *self.postgres.place.home.glob("postgres.log*")):
            shutil.copyfile(log, kept / log.name)
        return kept

    def pick_worker(self, dice: random.Random) -> int:
        """Return the process id of one of the web server's workers."""
        while not (workers := self.server.workers()):
            time.sleep(0.05)
        return dice.choice(workers)

    def keep_worker(self) -> None:
        """Start `flask worker` again if it has ended, as its supervisor would."""
        if self.worker.process.poll() is not None:
            self.worker_ends += 1
            self.worker = self.more.enter_context(
                working(self.settings, self.folder, wait=False, APP_LOG_LEVEL="info")
            )


@contextmanager
def stage() -> Iterator[Stage]:
    """Give the running service, and end and remove everything afterwards.

    Raises EmbeddedPostgresError or RuntimeError.
    """
    with ExitStack() as more:
        folder = more.enter_context(_folder())
        data_dir, small = more.enter_context(_disk(folder))
        postgres = Postgres(data_dir)
        more.callback(lambda: postgres.is_running and postgres.end())
        port = free_port()
        proxy = Proxy(port, postgres.place.socket)
        more.callback(proxy.end)
        direct, through = _settings(data_dir, None), _settings(data_dir, port)
        migrations.upgrade(direct)
        users, staff, sku = fill(direct, users=USERS)
        sizes = {"APP_SERVER_WORKERS": str(WORKERS), "APP_DATABASE_MAX_CONNECTIONS": "8"}
        chosen = variables(through) | {"APP_AUTH_ISSUER": direct.auth_issuer}
        level = {"APP_LOG_LEVEL": "info"}
        server = more.enter_context(serving(folder, app=None, **chosen, **sizes, **level))
        worker = more.enter_context(working(through, folder, **level))
        yield Stage(
            settings=through,
            postgres=postgres,
            proxy=proxy,
            server=server,
            users=users,
            staff=staff,
            sku=sku,
            disk=data_dir if small else None,
            worker=worker,
            more=more,
            folder=folder,
        )


@contextmanager
def direct(stage: Stage) -> Iterator[None]:
    """Let this process's pool be on the database, past the proxy, while the block runs."""
    with pool_on(_settings(stage.settings.data_dir, None), size=2):
        yield


def _settings(data_dir: Path, port: int | None) -> Settings:
    """Return the service's settings: by way of the proxy on a port, or straight."""
    application, owner = urls(data_dir)
    if port is not None:
        # What names the socket gives way to the proxy's address.
        url = make_url(application).set(host="127.0.0.1", port=port, query={})
        application = url.render_as_string(hide_password=False)
    return load_settings(
        {
            "APP_ENV": "test",
            "APP_DATA_DIR": str(data_dir),
            "APP_DATABASE_URL": application,
            "APP_DATABASE_MIGRATION_URL": owner,
            "APP_LOG_LEVEL": "warning",
        }
    )


def fill(settings: Settings, *, users: int) -> tuple[list[TestUser], str, str]:
    """Make so many users with credits, the API key of a program of staff, and something to buy."""
    with pool_on(settings, size=2):
        app = create_app(settings)
        customers = [people.make_user(app, credits=CREDITS) for _ in range(users)]
        program = people.make_user(app, roles=("finance",))
        staff = people.make_api_key(program, "credits:charge", "credits:reverse", "orders:refund")
        return customers, staff, make_product(price=PRICE).sku


@contextmanager
def _folder() -> Iterator[Path]:
    (PROJECT_ROOT / "var").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=PROJECT_ROOT / "var"))
    # As root the database runs as another user, who must be able to pass through.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _disk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Give a data folder, and whether it is on a disk of its own that may be filled.

    Only root may mount one. The folder is then in memory, and everybody else's on the real disk.
    """
    data_dir = folder / "disk"
    data_dir.mkdir(mode=0o711)
    if os.geteuid() != 0 or not _run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=711",
                                     "chaos", str(data_dir)):  # fmt: skip
        yield data_dir, False
        return
    try:
        yield data_dir, True
    finally:
        _run("umount", "--lazy", str(data_dir))


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
