"""A trial tells what went wrong in its process; what it tries is tested in tests/server."""

import os
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from app.platform import reload_trial
from app.platform.settings import Settings


def fail() -> None:
    raise LookupError("canary-message")


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("start", "seconds", "problem"),
    [
        (fail, 60.0, "A worker can't start with them: LookupError."),
        (end, 60.0, "A worker ended as it started."),
        (lambda: time.sleep(60), 1.0, "A worker didn't start with them within 1 s."),
    ],
)
def test_whatever_happens_in_it_is_told_and_stays_there(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[], None],
    seconds: float,
    problem: str,
) -> None:
    monkeypatch.setattr(reload_trial, "TRIAL_SECONDS", seconds)
    application = SimpleNamespace(app_uri="wsgi:app", callable=start, do_load_config=start)
    assert reload_trial.run(SimpleNamespace(app=application), settings).problems == [problem]
    assert application.callable is start
