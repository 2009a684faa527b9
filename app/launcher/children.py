"""Starts the programs that make up the service; they end with the launcher, however it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from signal import Signals

from app.launcher.run_lock import RunLock
from app.platform.processes import end_with_parent
from app.platform.settings import PROJECT_ROOT

# A program that can't run fails again and again: not more often than this.
RESTART_SECONDS = 1.0


class Child:
    """A Python module as a program beside this one.

    It gets SIGTERM when this process ends without a word, by kill -9 too. It holds the data folder
    as well: the next start waits until the last program has ended.
    """

    def __init__(self, *arguments: str, lock: RunLock, at_once: Signals) -> None:
        """Start nothing yet; `at_once` is the signal that ends it without finishing anything."""
        self._command = [sys.executable, "-m", *arguments]
        self._lock = lock
        self._at_once = at_once
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0

    def start(self) -> None:
        """Start the program.

        Raises OSError.
        """
        self._begun = time.monotonic()
        self._process = subprocess.Popen(
            self._command,
            cwd=PROJECT_ROOT,
            pass_fds=(self._lock.descriptor,),
            # Ctrl-C reaches this process alone, which then asks for a stop without lost work.
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGTERM),
        )

    @property
    def is_running(self) -> bool:
        """Tell whether the program runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int:
        """Return the exit code of a program that has ended; by a signal it is negative."""
        if self._process is None or self._process.returncode is None:
            raise RuntimeError("the program hasn't ended")
        return self._process.returncode

    @property
    def how(self) -> str:
        """Say how a program has ended."""
        return f"by signal {-self.code}" if self.code < 0 else f"with exit code {self.code}"

    def may_start_again(self) -> bool:
        """Tell whether the program has ended, and wasn't started just now."""
        if self._process is None or self.is_running:
            return False
        return time.monotonic() - self._begun >= RESTART_SECONDS

    def end(self, *, at_once: bool = False) -> None:
        """Ask the program to end, if it runs; to finish what it is doing first, or not."""
        if self._process is not None:
            self._process.send_signal(self._at_once if at_once else signal.SIGTERM)

    def kill_what_is_left(self) -> None:
        """Kill what a program that was killed has left behind."""
        if self._process is not None and self.code < 0:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
