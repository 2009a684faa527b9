"""Starts the launcher as `make run` does, and follows what it prints."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests import canaries
from tests.network import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
READY = "Bursar is ready"
LAUNCHER = (sys.executable, "-m", "app.launcher")


class Run:
    """A launcher, started on a data folder and a port, whose output goes to a file."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        command: Sequence[str] = LAUNCHER,
        cwd: Path = ROOT,
        identity: dict[str, Any] | None = None,
        **variables: str,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self._output = data_dir.with_name(f"output-{time.monotonic_ns()}")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("APP_") and name != "TEST_DATABASE_URL"
        }
        environment |= {"APP_ENV": "test", "APP_SERVER_WORKERS": "1", **variables}
        environment |= {"APP_DATA_DIR": str(data_dir), "APP_SERVER_PORT": str(port)}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **(identity or {}),
            )

    @property
    def output(self) -> str:
        """Return what was printed so far."""
        return self._output.read_text()

    def until(self, words: str = READY, *, patience: float = PATIENCE) -> None:
        """Wait until the launcher has printed the words."""
        end = time.monotonic() + patience
        while words not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.02)

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal if one is given, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def status(self, path: str) -> int:
        """Ask the service, and return the status of its answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return int(answer.status)

    def postgres(self) -> int:
        """Return the process id of the database's server."""
        pid_file = self.data_dir / "postgres" / "cluster" / "postmaster.pid"
        return int(pid_file.read_text().splitlines()[0])

    def web_server(self) -> int:
        """Return the process id of gunicorn's master."""
        return self._child("gunicorn")

    def worker(self) -> int:
        """Return the process id of the worker, as soon as there is one."""
        return self._child("worker")

    def _child(self, word: str) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for pid in children.read_text().split():
                with suppress(FileNotFoundError):
                    if word in Path(f"/proc/{pid}/cmdline").read_text():
                        return int(pid)
            time.sleep(0.02)
        raise AssertionError(self.output)

    def create_admin(self, email: str) -> str:
        """Commit a row by the operator's command, and return what the command printed."""
        command = [sys.executable, "-m", "flask", "users", "create-admin"]
        done = subprocess.run(
            [*command, "--email", email, "--name", "Ada"],
            cwd=ROOT,
            env={**os.environ, "APP_ENV": "test", "APP_DATA_DIR": str(self.data_dir)},
            input="correct-horse-battery-staple\n",
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


@contextmanager
def running(data_dir: Path, **options: Any) -> Iterator[Run]:
    """Give a launcher whose service is ready; end it with the block unless it has ended."""
    run = Run(data_dir, port=free_port(), **options)
    try:
        run.until()
        yield run
    finally:
        stop(run)


def stop(run: Run) -> None:
    """End a launcher that a test may have left."""
    if run.process.poll() is None:
        run.end(signal.SIGTERM)
    canaries.hear("what the launcher says", run.output.encode())
