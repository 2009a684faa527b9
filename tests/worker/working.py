"""Starts the worker as an operator does, and follows what it writes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.platform.settings import PROJECT_ROOT, Settings
from tests import canaries
from tests.database import variables

PATIENCE = 60.0


@dataclass
class Worker:
    """A running `flask worker`."""

    process: subprocess.Popen[bytes]
    log: Path
    # Standard error, where its start writes until it is known to be a server.
    errors: Path

    def text(self) -> str:
        """Return everything that was logged or printed so far."""
        return self.errors.read_text() + self.log.read_text()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event; one that is just being written isn't there yet."""
        whole = [file.read_text().rpartition("\n")[0] for file in (self.errors, self.log)]
        # libpq prints there by itself what a server says as it ends an idle connection.
        printed = [line for line in whole[0].splitlines() if line.startswith("{")]
        every = [json.loads(line) for line in (*printed, *whole[1].splitlines())]
        return [line for line in every if line["event"] == event]

    def until(self, event: str, *, times: int = 1, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until the worker has written lines of an event, and return the last one."""
        wait_until(lambda: len(self.lines(event)) >= times, self, patience=patience)
        return self.lines(event)[-1]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit code, and how many seconds the end took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE + 15)
        return code, time.monotonic() - begun


@contextmanager
def working(
    settings: Settings, folder: Path, *options: str, wait: bool = True, **more: str
) -> Iterator[Worker]:
    """Run a worker on a database of the tests until the block ends, up from the first moment."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("APP_")}
    log = folder / f"worker-{time.monotonic_ns()}"
    errors = log.with_suffix(".errors")
    with log.open("wb") as output, errors.open("wb") as error_output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "worker", *options],
            cwd=PROJECT_ROOT,
            env=kept | variables(settings) | {"APP_LOG_FORMAT": "json"} | more,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=error_output,
        )
    worker = Worker(process, log, errors)
    try:
        if wait:
            worker.until("worker_started")
        yield worker
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        canaries.hear("what a worker says", log.read_bytes() + errors.read_bytes())


def wait_until(fact: Callable[[], object], *workers: Worker, patience: float = PATIENCE) -> None:
    """Wait until something is so; a failure shows what the workers wrote."""
    end = time.monotonic() + patience
    while not fact():
        assert time.monotonic() < end, "\n".join(worker.text() for worker in workers)
        time.sleep(0.05)
