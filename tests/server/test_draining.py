"""A stop is announced first: balancers see it while everybody is still served."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.server.serving import (
    PATIENCE,
    ROOT,
    command,
    environment,
    read_answer,
    serving,
    wait_until,
)

DRAIN_SECONDS = 3
WHO = b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.usefixtures("traced")
def test_everybody_is_served_until_balancers_have_seen_the_stop(tmp_path: Path) -> None:
    with serving(tmp_path, APP_SERVER_DRAIN_SECONDS=str(DRAIN_SECONDS)) as server:
        (worker,) = server.workers()
        with server.connect() as kept:
            kept.sendall(WHO)
            assert b"Connection: close" not in read_answer(kept)[0]
            began = time.monotonic()
            server.process.terminate()
            wait_until(lambda: server.get("/ready").json["checks"] == {"service": "stopping"})
            assert server.get("/ready").status == 503
            # Kept connections are given up one answer at a time, so that none is cut.
            kept.sendall(WHO)
            assert b"Connection: close" in read_answer(kept)[0]
        # It is still a service: what dies is replaced.
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.get("/who").json["pid"] != worker)
        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - began >= DRAIN_SECONDS
        assert server.lines("draining")[0]["seconds"] == DRAIN_SECONDS


def test_a_second_signal_ends_the_wait(tmp_path: Path) -> None:
    with serving(tmp_path, APP_SERVER_DRAIN_SECONDS="15") as server:
        server.process.terminate()
        wait_until(lambda: server.lines("draining"))
        assert server.stop(signal.SIGINT) < 8
        assert server.process.returncode == 0


@pytest.mark.parametrize(
    ("option", "drain", "named"),
    [
        ("--timeout=30", "30", "APP_SERVER_DRAIN_SECONDS"),
        ("--graceful-timeout=5", "0", "a request's deadline"),
    ],
)
def test_a_start_is_refused_whose_time_limits_do_not_fit(
    tmp_path: Path, option: str, drain: str, named: str
) -> None:
    ended = subprocess.run(
        command(option, app="tests.server.small:app"),
        cwd=ROOT,
        env=environment(tmp_path, APP_SERVER_DRAIN_SECONDS=drain),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 78
    told = ended.stdout + ended.stderr
    assert named in told
    assert "Listening" not in told
    # What no option has changed is told before anything else.
    assert ("Starting gunicorn" in told) == ("graceful" in option)
