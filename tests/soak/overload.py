"""Sends ten times as many requests as the service can answer, and looks at what comes back."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException

from tests.soak.load import Outcome, Plan, run
from tests.soak.stage import Stage, idle_share, percentile

TIMES = 10
CLIENTS, CONNECTIONS = 64, 1900
WARM_UP_SECONDS, CAPACITY_SECONDS, OVERLOAD_SECONDS = 3.0, 5.0, 10.0
RECOVERY_SECONDS = 12.0
PROBES = ("/health", "/ready")
PROBE_PAUSE_SECONDS = 0.2
# What must hold.
LEAST_GOOD, REFUSED_SECONDS, RECOVERED_SECONDS, PROBE_SECONDS = 0.8, 1.0, 5.0, 1.0
# Half of the capacity is no load: whoever waits longer for it is still being kept from it.
AT_EASE_SECONDS = 0.5
# Of a CPU, for busy loops while the service rests; otherwise somebody else is using the machine.
LEAST_IDLE, TRIES = 0.85, 3


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one overload showed."""

    kind: str
    before: Outcome
    overload: Outcome
    recovery: Outcome
    after: Outcome
    probes: list[tuple[str, int, float]]
    # Seconds of CPU time that the workers spent on a good answer, in each of the two.
    cost_before: float
    cost_in_overload: float

    @property
    def capacity(self) -> float:
        """Return good answers per second without overload."""
        return (self.before.rate + self.after.rate) / 2

    @property
    def good(self) -> float:
        """Return which share of the capacity was answered well in overload."""
        return self.overload.rate / self.capacity

    @property
    def times(self) -> float:
        """Return how many times the capacity was really sent: the generator has limits too."""
        return self.overload.sent / self.overload.seconds / self.capacity

    @property
    def refused(self) -> float:
        """Return the seconds that 99 of 100 refusals took at most."""
        return percentile(self.overload.refused, 0.99)

    @property
    def recovered(self) -> float:
        """Return after how many seconds everybody was answered well again."""
        late = [due for due, took in self.recovery.good if took > AT_EASE_SECONDS]
        late += [due for due, _ in self.recovery.refused]
        return max(late, default=0.0)

    def wrong(self) -> list[str]:
        """Return sentences about what doesn't hold."""
        found = []
        if self.good < LEAST_GOOD:
            found.append(f"{self.good:.2f} of the capacity was answered, not {LEAST_GOOD}.")
        if self.refused > REFUSED_SECONDS:
            found.append(f"Refusals took {self.refused:.2f} s.")
        if self.recovered > RECOVERED_SECONDS:
            found.append(f"It took {self.recovered:.1f} s to recover.")
        for outcome in (self.before, self.overload, self.recovery, self.after):
            found += [f"{number} requests: {why}." for why, number in outcome.failed.items()]
        for path, status, took in self.probes:
            if status != 200 or took > PROBE_SECONDS:
                found.append(f"{path} answered {status} after {took:.2f} s.")
        return [f"{self.kind}: {sentence}" for sentence in found]

    def __str__(self) -> str:
        slowest = max(took for *_, took in self.probes)
        overload = self.overload
        return (
            f"{self.kind}: capacity {self.before.rate:,.0f} before, {self.after.rate:,.0f} after;"
            f" sent {self.times:.1f} times that, {overload.rate:,.0f} good ({self.good:.2f}; p50"
            f" {percentile(overload.good, 0.5):.2f}, p99 {percentile(overload.good, 0.99):.2f} s),"
            f" {len(overload.refused) / overload.seconds:,.0f} refused (p99 {self.refused:.2f} s);"
            f" recovered after {self.recovered:.1f} s; slowest of {len(self.probes)} probes"
            f" {slowest:.2f} s; a good answer cost the workers {self.cost_before * 1000:.1f} ms of"
            f" CPU, in overload {self.cost_in_overload * 1000:.1f} with what was refused"
            f" ({self.cost_before / self.cost_in_overload:.2f})"
        )


def check(scene: Stage, kind: str) -> list[str]:
    """Overload the service with requests of a kind, print the figures, return what is wrong.

    What was disturbed by others, and failed, is tried again.
    """
    wrong: list[str] = []
    for _ in range(TRIES):
        idle = idle_share()
        trial = overload(scene, kind)
        wrong, idle = trial.wrong(), min(idle, idle_share())
        print(trial, "" if idle >= LEAST_IDLE else f"; others left {idle:.2f} of it", flush=True)
        if not wrong or idle >= LEAST_IDLE:
            break
    return wrong


def overload(scene: Stage, kind: str) -> Trial:
    """Measure the capacity, send ten times as much, then half of it, and measure it again."""

    def plan(rate: float, seconds: float, connections: int) -> Plan:
        return Plan(
            port=scene.port,
            kind=kind,
            people=str(scene.members),
            password=scene.password,
            rate=rate,
            seconds=seconds,
            connections=connections,
            seed=secrets.randbelow(10**9),
        )

    run(plan(0, WARM_UP_SECONDS, CLIENTS))
    before, cost_before = costing(scene, plan(0, CAPACITY_SECONDS, CLIENTS))
    with probing(scene) as probes:
        rate = TIMES * before.rate
        flood, cost_in_overload = costing(scene, plan(rate, OVERLOAD_SECONDS, CONNECTIONS))
    recovery = run(plan(before.rate / 2, RECOVERY_SECONDS, CLIENTS * 2))
    after = run(plan(0, CAPACITY_SECONDS, CLIENTS))
    return Trial(
        kind=kind,
        before=before,
        overload=flood,
        recovery=recovery,
        after=after,
        probes=probes,
        cost_before=cost_before,
        cost_in_overload=cost_in_overload,
    )


def costing(scene: Stage, plan: Plan) -> tuple[Outcome, float]:
    """Run a plan; return its outcome, and the workers' seconds of CPU time for a good answer.

    That tells what refusing costs also where generator and database take their share of the CPUs.
    """
    begun = scene.cpu_seconds()
    outcome = run(plan)
    return outcome, (scene.cpu_seconds() - begun) / max(len(outcome.good), 1)


@contextmanager
def probing(scene: Stage) -> Iterator[list[tuple[str, int, float]]]:
    """Ask the probes, each time on a new connection, and note path, status and seconds."""
    enough, noted = threading.Event(), list[tuple[str, int, float]]()

    def probe() -> None:
        while not enough.wait(PROBE_PAUSE_SECONDS):
            for path in PROBES:
                begun = time.monotonic()
                try:
                    status = scene.get(path).status
                except (OSError, HTTPException):
                    status = 0
                noted.append((path, status, time.monotonic() - begun))

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield noted
    finally:
        enough.set()
        thread.join()
