"""Lets slow clients hold connections, and looks whether everybody else notices."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.soak.load import Outcome, Plan, run
from tests.soak.stage import Stage, percentile

ATTACKERS = 200
RATE, CONNECTIONS, SECONDS = 50, 32, 20.0
LONGEST_P99_SECONDS = 0.2


@contextmanager
def attacked(port: int, number: int) -> Iterator[None]:
    """Let so many of each kind of slow client hold their connections while the block runs."""
    command = [sys.executable, "-m", "tests.soak.attackers", str(port), str(number)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def check(scene: Stage) -> list[str]:
    """Attack, print the figures, and return what is wrong."""
    calm = users(scene, SECONDS)
    with attacked(scene.port, ATTACKERS):
        under_attack = users(scene, SECONDS)
    before, after = percentile(calm.good, 0.99), percentile(under_attack.good, 0.99)
    print(
        f"slow clients: {ATTACKERS} each of slow heads, bodies and readers; of"
        f" {len(under_attack.good):,} requests at {RATE} a second half took"
        f" {percentile(under_attack.good, 0.5) * 1000:.0f} ms, p99 {after * 1000:.0f} ms;"
        f" without them p99 {before * 1000:.0f} ms"
    )
    wrong = [f"slow clients: {number} requests: {why}" for why, number in
             (under_attack.failed | calm.failed).items()]  # fmt: skip
    if under_attack.refused:
        wrong.append(f"slow clients: {len(under_attack.refused)} requests were refused.")
    if after > LONGEST_P99_SECONDS:
        wrong.append(f"slow clients: the p99 of everybody else was {after:.2f} s.")
    return wrong


def users(scene: Stage, seconds: float) -> Outcome:
    """Ask who one is at a fixed rate, as many different users."""
    return run(
        Plan(
            port=scene.port,
            kind="me",
            people=str(scene.members),
            rate=RATE,
            seconds=seconds,
            connections=CONNECTIONS,
            seed=secrets.randbelow(10**9),
        )
    )
