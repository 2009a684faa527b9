"""Lets one service at a time run on a data folder, and tells who holds it."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from app.platform.processes import running_program

# A holder that was told to stop may not have noted it yet.
NOTICE_SECONDS = 1.5
# Longer than the service takes for its last requests.
ENDING_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.1


class AlreadyRunning(Exception):
    """Another service holds the data folder; the message is a sentence for a person."""


class RunLock:
    """A held data folder.

    `descriptor` may be handed to a child process: then the folder stays held until that one has
    ended too, also when this process is killed.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, data_dir: Path, *, address: str, say: Callable[[str], None]) -> "RunLock":
        """Hold the folder; wait while an earlier run is about to end.

        Raises AlreadyRunning or OSError.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        path = data_dir / "run.lock"
        lock = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        try:
            _wait_for(lock.descriptor, path, say)
        except BaseException:
            lock.release()
            raise
        lock._note(f"{os.getpid()} {address}")
        return lock

    def announce_end(self) -> None:
        """Let the next start wait for this run's end, instead of refusing."""
        self._note("ending")

    def release(self) -> None:
        """Let the folder go, as far as this process is concerned."""
        os.close(self.descriptor)

    def _note(self, text: str) -> None:
        """Write into the file what another start reads."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)


def _wait_for(descriptor: int, path: Path, say: Callable[[str], None]) -> None:
    """Take the lock as soon as an ending holder lets it go.

    The kernel releases the lock when its last holder ends, however it ends; what the file says is
    for people, and to tell a run that goes on from one that ends.
    """
    begun = time.monotonic()
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - begun
        else:
            return
        pid, _, address = path.read_text().partition(" ")
        if waited > NOTICE_SECONDS and _is_alive(pid):
            raise AlreadyRunning(
                f"Bursar is running already at {address} with this data folder, {path.parent}. "
                f"Stop it (kill {pid}), or choose another APP_DATA_DIR and APP_SERVER_PORT."
            )
        if waited > ENDING_SECONDS:
            raise AlreadyRunning(
                f"An earlier run hasn't ended: a process of it still holds {path}."
            )
        if waited > NOTICE_SECONDS and not told:
            say("Waiting for an earlier run to end")
            told = True
        time.sleep(LOOK_AGAIN_SECONDS)


def _is_alive(pid: str) -> bool:
    """Tell whether the noted process runs; a run that ends has noted none."""
    return pid.isdecimal() and running_program(int(pid)) is not None
