"""One service at a time on a data folder, and a wait for one that is about to end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.launcher.run_lock import AlreadyRunning, RunLock

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import subprocess, sys, time
from pathlib import Path
from app.launcher.run_lock import RunLock
lock = RunLock.take(Path(sys.argv[1]), address="http://127.0.0.1:3000", say=print)
{then}
"""


def holder(data_dir: Path, then: str) -> "subprocess.Popen[str]":
    """Start a process that takes the folder, then does something, and says when."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(then=then), str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def take(data_dir: Path, said: list[str]) -> None:
    """Take the folder and let it go."""
    RunLock.take(data_dir, address="http://127.0.0.1:3001", say=said.append).release()


def test_a_folder_that_a_running_service_holds_is_refused_with_its_address(data_dir: Path) -> None:
    running = holder(data_dir, "print('held', flush=True); sys.stdin.read()")
    try:
        with pytest.raises(AlreadyRunning) as refused:
            take(data_dir, [])
        assert "http://127.0.0.1:3000" in str(refused.value)
        assert f"kill {running.pid}" in str(refused.value)
    finally:
        running.communicate()
    take(data_dir, [])


def test_a_start_waits_for_a_run_that_ends(data_dir: Path) -> None:
    then = "lock.announce_end(); print('held', flush=True); time.sleep(3)"
    ending = holder(data_dir, then)
    said: list[str] = []
    take(data_dir, said)
    assert said == ["Waiting for an earlier run to end"]
    ending.communicate()


def test_a_start_waits_for_what_a_killed_run_left_behind(data_dir: Path) -> None:
    then = (
        "subprocess.Popen(['sleep', '3'], stdout=subprocess.DEVNULL,"
        " pass_fds=[lock.descriptor]); print('held', flush=True); sys.stdin.read()"
    )
    killed = holder(data_dir, then)
    began = time.monotonic()
    # It stays a zombie until the end of the test, as below a first process that never asks.
    killed.kill()
    take(data_dir, [])
    assert time.monotonic() - began > 1.0
    killed.communicate()
