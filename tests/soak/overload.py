"""Sends ten times as many requests as the service can answer, and looks at what comes back."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from itertools import pairwise
from statistics import mean, median

from app.users import passwords
from tests.soak.load import Outcome, Plan, run
from tests.soak.stage import WORKERS, Stage, percentile

TIMES = 10
CLIENTS, CONNECTIONS = 40, 1800 * WORKERS
# So many keep the workers busy, and none of them is refused.
SIGNING_IN = passwords.SHORTEST_QUEUE // 2 * WORKERS
# A machine that others use as well is slow in one second and fast in the next one: a single round
# may be wrong by a third, all of these together by a fiftieth. So capacity and overload take turns,
# and each overload counts against the capacity right before and after it.
ROUNDS, WARM_UP_SECONDS, CAPACITY_SECONDS, OVERLOAD_SECONDS = 24, 6.0, 3.0, 5.0
RECOVERY_SECONDS = 12.0
PROBES = ("/health", "/ready")
PROBE_PAUSE_SECONDS = 0.2
# What must hold.
LEAST_GOOD, REFUSED_SECONDS, RECOVERED_SECONDS, PROBE_SECONDS = 0.8, 1.0, 5.0, 1.0
# Half of the capacity is no load: whoever waits longer for it is still being kept from it.
AT_EASE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one kind of requests showed: one overload between each two capacities."""

    kind: str
    capacities: list[Outcome]
    overloads: list[Outcome]
    recovery: Outcome
    probes: list[tuple[str, int, float]]

    @property
    def good(self) -> float:
        """Return which share of the capacity was answered well, in all overloads together."""
        return sum(each.rate for each in self.overloads) / sum(self._around)

    @property
    def shares(self) -> list[float]:
        """Return which share of the capacity was answered well in each overload."""
        pairs = zip(self.overloads, self._around, strict=True)
        return sorted(each.rate / capacity for each, capacity in pairs)

    @property
    def _around(self) -> list[float]:
        """Return the capacity around each overload."""
        return [mean(each.rate for each in pair) for pair in pairwise(self.capacities)]

    @property
    def times(self) -> float:
        """Return how many times the capacity was really sent: the generator has limits too."""
        sent = median(each.sent / each.seconds for each in self.overloads)
        return sent / median(each.rate for each in self.capacities)

    @property
    def refused(self) -> float:
        """Return the seconds that 99 of 100 refusals took at most."""
        return percentile([each for flood in self.overloads for each in flood.refused], 0.99)

    @property
    def longest(self) -> float:
        """Return the seconds that the slowest refusal took."""
        return percentile([each for flood in self.overloads for each in flood.refused], 1.0)

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
        if self.longest > REFUSED_SECONDS:
            found.append(f"A refusal took {self.longest:.2f} s.")
        if refused := sum(len(each.refused) for each in self.capacities):
            found.append(f"{refused} requests were refused while there was no overload.")
        if self.recovered > RECOVERED_SECONDS:
            found.append(f"It took {self.recovered:.1f} s to recover.")
        for outcome in (*self.capacities, *self.overloads, self.recovery):
            found += [f"{number} requests: {why}." for why, number in outcome.failed.items()]
        for path, status, took in self.probes:
            if status != 200 or took > PROBE_SECONDS:
                found.append(f"{path} answered {status} after {took:.2f} s.")
        return [f"{self.kind}: {sentence}" for sentence in found]

    def __str__(self) -> str:
        slowest = max(took for *_, took in self.probes)
        answered = [each for flood in self.overloads for each in flood.good]
        refused = sum(len(each.refused) for each in self.overloads)
        capacities = sorted(each.rate for each in self.capacities)
        return (
            f"{self.kind}: capacity {mean(capacities):,.0f} a second ({capacities[0]:,.0f} to"
            f" {capacities[-1]:,.0f}); sent {self.times:.1f} times that; good {self.good:.2f} of it"
            f" (each time {self.shares[0]:.2f} to {self.shares[-1]:.2f};"
            f" p50 {percentile(answered, 0.5):.2f}, p99 {percentile(answered, 0.99):.2f} s);"
            f" {refused:,} refused (p99 {self.refused:.2f}, at most {self.longest:.2f} s);"
            f" recovered after {self.recovered:.1f} s; slowest of {len(self.probes)} probes"
            f" {slowest:.2f} s"
        )


def check(scene: Stage, kind: str) -> list[str]:
    """Overload the service with requests of a kind, print the figures, return what is wrong."""
    trial = overload(scene, kind)
    print(trial, flush=True)
    return trial.wrong()


def overload(scene: Stage, kind: str) -> Trial:
    """Measure the capacity and send ten times as much in turn, then half of it."""

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

    clients = SIGNING_IN if kind == "login" else CLIENTS

    def capacity() -> Outcome:
        # A balancer asks all the time; what it costs is no part of what an overload costs.
        with probing(scene, probes):
            return run(plan(0, CAPACITY_SECONDS, clients))

    run(plan(0, WARM_UP_SECONDS, clients))
    capacities, overloads, probes = [], list[Outcome](), list[tuple[str, int, float]]()
    for _ in range(ROUNDS):
        capacities.append(capacity())
        with probing(scene, probes):
            rate = TIMES * capacities[-1].rate
            overloads.append(run(plan(rate, OVERLOAD_SECONDS, CONNECTIONS)))
    recovery = run(plan(capacities[-1].rate / 2, RECOVERY_SECONDS, clients * 2))
    capacities.append(capacity())
    return Trial(
        kind=kind, capacities=capacities, overloads=overloads, recovery=recovery, probes=probes
    )


@contextmanager
def probing(scene: Stage, noted: list[tuple[str, int, float]]) -> Iterator[None]:
    """Ask the probes, each time on a new connection, and note path, status and seconds."""
    enough = threading.Event()

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
        yield
    finally:
        enough.set()
        thread.join()
