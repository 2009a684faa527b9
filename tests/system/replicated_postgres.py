"""A primary and the replica it waits for: Debian's PostgreSQL, set up by the files in deploy/."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from app.platform.settings import PROJECT_ROOT
from tests.network import free_port
from tests.server.serving import wait_until
from tests.system.debian import postgresql
from tests.system.external_postgres import PASSWORDS

DEPLOY = PROJECT_ROOT / "deploy"
REPLICA = "bursar_replica"
REPLICA_PASSWORD = "a90c4e17replica"
ENVIRONMENT = os.environ | PASSWORDS | {"BURSAR_REPLICA_PASSWORD": REPLICA_PASSWORD}
# What is synchronous is so by the network; this machine loses no power meanwhile.
SPARED = "-c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off"


@dataclass
class PostgresServer:
    """One of the two, in a folder that nobody else may enter."""

    folder: Path
    name: str
    identity: dict[str, Any]
    port: int = field(default_factory=free_port)

    @property
    def data(self) -> Path:
        """Return where its files are."""
        return self.folder / self.name

    @property
    def socket(self) -> str:
        """Return how its superuser connects."""
        return f"host={self.folder} port={self.port} user=postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end, as the user whom the server belongs to."""
        subprocess.run(
            [postgresql() / program, *arguments],
            cwd=self.folder,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            **self.identity,
        )

    def start(self, more: str = "") -> None:
        """Start it, and wait until it answers."""
        hba = f"-c hba_file={self.folder}/pg_hba.conf"
        options = f"-p {self.port} -k {self.folder} {SPARED} {hba} {more}"
        log = f"{self.data}.log"
        self.run("pg_ctl", "start", "-w", "-s", "-D", str(self.data), "-l", log, "-o", options)

    def stop(self) -> None:
        """End it without ceremony."""
        self.run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", str(self.data))

    def pid(self) -> int:
        """Return the number of its first process, which may be dead."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def processes(self) -> list[psutil.Process]:
        """Return its processes, the first one at the head."""
        first = psutil.Process(self.pid())
        return [first, *first.children(recursive=True)]

    def send(self, number: int) -> None:
        """Send a signal to all of it."""
        for process in self.processes():
            process.send_signal(number)

    def kill(self) -> None:
        """Let it end as its machine would: at once, whatever it is doing."""
        killed = self.processes()
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=10)

    def ask(self, statement: str, database: str = "bursar") -> list[Any]:
        """Return the rows of a statement of the superuser."""
        connection = psycopg2.connect(f"{self.socket} dbname={database}")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()


@dataclass
class Pair:
    """A primary, and its replica, which can take its place."""

    primary: PostgresServer
    replica: PostgresServer
    failed_over: bool = False

    @property
    def writable(self) -> PostgresServer:
        """Return the one that takes writes."""
        return self.replica if self.failed_over else self.primary

    def url(self, role: str) -> str:
        """Return the URL of whichever of them takes writes."""
        password = PASSWORDS[f"{role.upper()}_PASSWORD"]
        places = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.replica.port}"
        return f"postgresql://{role}:{password}@{places}/bursar"

    @contextmanager
    def replica_stopped(self) -> Iterator[None]:
        """Let the replica stand still until the block ends."""
        self.replica.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.replica.send(signal.SIGCONT)

    def fail_over(self) -> None:
        """Kill the primary, and let the replica take its place."""
        self.primary.kill()
        self.replica.run("pg_ctl", "promote", "-w", "-s", "-D", str(self.replica.data))
        self.failed_over = True


@contextmanager
def replicated_postgres() -> Iterator[Pair]:
    """Run both until the block ends, with an empty database."""
    folder = Path(tempfile.mkdtemp(prefix="bursar-postgres-"))
    # PostgreSQL refuses to run as root; its package has made a user for it.
    identity: dict[str, Any] = {}
    if os.getuid() == 0:
        identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    # Only a user of the tests may enter the folder, and their name isn't always the superuser's.
    rules = (DEPLOY / "postgres/pg_hba.conf").read_text().replace("peer", "trust")
    (folder / "pg_hba.conf").write_text(rules)
    pair = Pair(*(PostgresServer(folder, name, identity) for name in ("primary", "replica")))
    running: list[PostgresServer] = []
    try:
        _start_primary(pair.primary)
        running.append(pair.primary)
        _start_replica(pair)
        running.append(pair.replica)
        waits = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: pair.primary.ask(waits))
        yield pair
    finally:
        _end(running)
        shutil.rmtree(folder)


def _start_primary(primary: PostgresServer) -> None:
    trust = ("--auth-local=trust", "--auth-host=scram-sha-256")
    primary.run("initdb", "-D", str(primary.data), "-U", "postgres", "--no-sync", *trust)
    primary.start()
    for script in ("roles.sql", "postgres/replication.sql"):
        place = f"{primary.socket} dbname=postgres"
        how = ("--quiet", "-v", "ON_ERROR_STOP=1", "-f", str(DEPLOY / script))
        primary.run("psql", *how, place)
    primary.run("pg_ctl", "restart", "-w", "-s", "-D", str(primary.data))


def _start_replica(pair: Pair) -> None:
    place = (
        f"host=127.0.0.1 port={pair.primary.port} user={REPLICA} password={REPLICA_PASSWORD}"
        f" application_name={REPLICA}"
    )
    to = ("-D", str(pair.replica.data), "-R", "-S", REPLICA, "-c", "fast", "--no-sync")
    pair.replica.run("pg_basebackup", "-d", place, *to)
    # Promoted, it has nobody to wait for.
    pair.replica.start("-c synchronous_standby_names=")


def _end(servers: Sequence[PostgresServer]) -> None:
    for server in servers:
        if not psutil.pid_exists(server.pid()):
            # What a killed one left in shared memory is removed by its next start.
            server.start()
        server.stop()
