"""Sets up what is attacked: PostgreSQL with fsync, and the service with settings of production."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from app import create_app
from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres
from app.platform.settings import PROJECT_ROOT, load_settings
from benchmarks.people import fill
from benchmarks.stage import environment, free_port, server
from tests.server.serving import Answer, ask, lives

# The last CPU is for those who ask: what they cost shall take nothing from those who answer.
CPUS = sorted(os.sched_getaffinity(0))
ANSWERING, ASKING = CPUS[:-1] or CPUS, CPUS[-1:]
WORKERS = len(ANSWERING)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The running service, and who uses it."""

    port: int
    master: int
    members: Path
    password: str

    def workers(self) -> list[psutil.Process]:
        """Return the processes of the workers."""
        children = psutil.Process(self.master).children()
        return sorted((each for each in children if lives(each)), key=lambda each: each.pid)

    def get(self, path: str) -> Answer:
        """Return an answer that came on a connection of its own."""
        return ask(self.port, path)


@contextmanager
def stage() -> Iterator[Stage]:
    """Give the running service, and end and remove everything afterwards.

    Raises EmbeddedPostgresError or RuntimeError.
    """
    (PROJECT_ROOT / "var").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=PROJECT_ROOT / "var"))
    # As root the database runs as another user, who must be able to pass through.
    folder.chmod(0o711)
    port = free_port()
    # The limits are those of the benchmarks: all of it comes from one address, of few users.
    given = environment(folder, port) | {
        "APP_SERVER_WORKERS": str(WORKERS),
        "APP_AUTH_ACCESS_SECONDS": "86400",
    }
    settings = load_settings(given)
    os.sched_setaffinity(0, ANSWERING)
    database = EmbeddedPostgres.start(folder, say=lambda _: None)
    try:
        migrations.upgrade(settings)
        people = fill(settings, create_app(settings), folder=folder, repetitions=0)
        ready, log = f"http://127.0.0.1:{port}/ready", folder / "service.log"
        with server(["gunicorn"], given, address=ready, log=log) as master:
            os.sched_setaffinity(0, ASKING)
            yield Stage(port=port, master=master, members=people.members, password=people.password)
    finally:
        os.sched_setaffinity(0, CPUS)
        database.stop()
        shutil.rmtree(folder, ignore_errors=True)


def percentile(taken: list[tuple[float, float]], share: float) -> float:
    """Return the seconds within which a share of the answers came, 0 without any."""
    seconds = sorted(took for _, took in taken)
    return seconds[min(int(len(seconds) * share), len(seconds) - 1)] if seconds else 0.0
