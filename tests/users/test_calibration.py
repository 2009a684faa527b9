"""What is proposed for password hashes, on made-up machines and on this one."""

from collections.abc import Callable

import pytest

from app.platform.settings import Settings
from app.users.calibration import LEAST, MOST_MEMORY_KIB, Cost, propose
from tests.commands import flask


def machine(speed: float) -> Callable[[Cost], float]:
    """Return how many milliseconds a hash takes on a machine that fills so many KiB in one."""
    return lambda cost: 0.5 + cost.memory_kib * cost.time_cost / speed


@pytest.mark.parametrize("speed", [1500, 2500])
def test_more_memory_comes_first(speed: float) -> None:
    cost = propose(milliseconds=75, measure=machine(speed))
    assert cost.memory_kib > LEAST.memory_kib
    assert (cost.time_cost, cost.parallelism) == (LEAST.time_cost, 1)
    assert 70 < machine(speed)(cost) <= 75


def test_more_passes_come_when_a_hash_has_memory_enough() -> None:
    cost = propose(milliseconds=1000, measure=machine(1500))
    assert cost.memory_kib == MOST_MEMORY_KIB
    assert cost.time_cost > LEAST.time_cost
    assert 850 < machine(1500)(cost) <= 1000


@pytest.mark.parametrize("milliseconds", [1, 75])
def test_nothing_below_the_least_that_is_safe_is_proposed(milliseconds: float) -> None:
    assert propose(milliseconds=milliseconds, measure=machine(100)) == LEAST


def test_a_machine_that_is_disturbed_gets_something_safe() -> None:
    """Whatever is measured while other programs are at work."""
    times = iter([28.0, 300.0, 5.0, 0.1])
    cost = propose(milliseconds=75, measure=lambda _: next(times))
    assert LEAST.memory_kib <= cost.memory_kib <= MOST_MEMORY_KIB
    assert LEAST.time_cost <= cost.time_cost


@pytest.mark.usefixtures("traced")
def test_the_command_prints_settings_with_which_a_service_starts(settings: Settings) -> None:
    ended = flask(settings, "auth", "calibrate", "--milliseconds", "1")
    assert ended.returncode == 0, ended.stderr
    comments = [line for line in ended.stdout.splitlines() if line.startswith("# ")]
    proposed = [line for line in ended.stdout.splitlines() if not line.startswith("# ")]
    assert proposed == [
        "APP_AUTH_ARGON2_MEMORY_KIB=19456",
        "APP_AUTH_ARGON2_TIME_COST=2",
        "APP_AUTH_ARGON2_PARALLELISM=1",
    ]
    assert comments[0].endswith(" ms, 1 ms were wanted.")
    assert comments[1] == "# This is the least that is safe."
    workers = settings.server_workers
    assert comments[2].startswith(f"# {workers} workers make ")
    assert comments[2].endswith(f" and take {workers * 19} MiB for them.")
