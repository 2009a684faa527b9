"""Every time limit is shorter than the one around it; a start that breaks that is refused."""

from dataclasses import replace

import pytest

from app.platform import deadlines, time_limits
from app.platform.engine import TIMEOUTS
from app.platform.settings import Settings, SettingsError
from app.platform.time_limits import check, graceful_seconds

PLENTY = 3600.0


def problems(settings: Settings, *, graceful_timeout: float | None = None) -> list[str]:
    """Return what is wrong with the limits."""
    with pytest.raises(SettingsError) as caught:
        check(settings, graceful_timeout=graceful_timeout or graceful_seconds())
    return caught.value.problems


def test_the_limits_fit_as_they_are(settings: Settings) -> None:
    check(settings, graceful_timeout=graceful_seconds())
    # What README tells operators.
    assert (graceful_seconds(), settings.server_stop_seconds) == (39, 60)
    for drain in (5, 20):
        check(replace(settings, server_drain_seconds=drain), graceful_timeout=graceful_seconds())


def test_a_worker_may_finish_the_longest_request_before_it_is_killed() -> None:
    assert graceful_seconds() > deadlines.REQUEST_SECONDS


def test_draining_and_the_longest_request_end_before_the_kill(settings: Settings) -> None:
    (problem,) = problems(replace(settings, server_drain_seconds=30.0))
    assert "APP_SERVER_DRAIN_SECONDS leaves of APP_SERVER_STOP_SECONDS 30 s" in problem
    (problem,) = problems(replace(settings, server_stop_seconds=30.0))
    assert f"graceful_timeout is {graceful_seconds()} s" in problem


def test_the_graceful_time_holds_the_longest_request(settings: Settings) -> None:
    (problem,) = problems(settings, graceful_timeout=graceful_seconds() - 1)
    assert "longest request" in problem
    (problem,) = problems(settings, graceful_timeout=5)
    assert problem.startswith("a request's deadline is 30 s and gunicorn's graceful_timeout 5 s")


@pytest.mark.parametrize(
    ("name", "inner", "outer"),
    [
        ("lock_timeout", "lock_timeout", "statement_timeout"),
        ("statement_timeout", "statement_timeout", "the driver's deadline"),
        (
            "idle_in_transaction_session_timeout",
            "idle_in_transaction_session_timeout",
            "a request's deadline",
        ),
    ],
)
def test_the_limits_of_the_database_are_shorter_than_a_request(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, inner: str, outer: str
) -> None:
    monkeypatch.setattr(time_limits, "TIMEOUTS", {**TIMEOUTS, name: f"{PLENTY:g}s"})
    (problem,) = problems(settings)
    assert problem.startswith(f"{inner} is 3600 s and {outer}")


def test_a_request_that_takes_longer_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "REQUEST_SECONDS", 55.0)
    (problem,) = problems(settings)
    assert "APP_SERVER_STOP_SECONDS" in problem
