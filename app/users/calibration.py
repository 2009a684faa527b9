"""Proposes how much work a password hash may be on this machine.

Memory first, because it is what makes guessing on other hardware expensive; passes once a hash has
as much memory as is sensible (RFC 9106, 4). One lane: a worker hashes one password at a time, and
there is a worker for each CPU, so that several lanes would only wait for one another.
"""

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from app.users import passwords

ROUNDS = 4
HASHES = 5
_KIB_STEP = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a hash costs, in the settings' terms."""

    memory_kib: int
    time_cost: int
    parallelism: int = 1


# Nothing below is safe (OWASP, Password Storage Cheat Sheet).
LEAST = Cost(memory_kib=19_456, time_cost=2)
# With more, a few dozen workers need more memory for hashes than for everything else.
MOST_MEMORY_KIB = 131_072


def propose(*, milliseconds: float, measure: Callable[[Cost], float]) -> Cost:
    """Return the cost of a hash that takes about so long, or OWASP's least where that takes longer.

    `measure` tells how many milliseconds a hash takes. They grow nearly in proportion to memory
    times passes, so that a few rounds come close.
    """
    cost = LEAST
    for _ in range(ROUNDS):
        work = cost.memory_kib * cost.time_cost * milliseconds / measure(cost)
        steps = int(work / LEAST.time_cost / _KIB_STEP)
        memory_kib = min(max(steps * _KIB_STEP, LEAST.memory_kib), MOST_MEMORY_KIB)
        time_cost = max(int(work / memory_kib), LEAST.time_cost)
        cost = Cost(memory_kib=memory_kib, time_cost=time_cost)
    return cost


def measure(cost: Cost) -> float:
    """Return how many milliseconds a hash takes here while nothing else is hashed."""
    took = []
    for _ in range(HASHES):
        began = perf_counter()
        _hash(cost)
        took.append(perf_counter() - began)
    return 1000 * statistics.median(took)


def hashes_a_second(cost: Cost, *, workers: int) -> float:
    """Return how many hashes as many workers make in a second, all at work at once."""
    with ThreadPoolExecutor(workers) as threads:
        began = perf_counter()
        # The hash itself runs without Python's lock: threads do as well as processes.
        made = len(list(threads.map(_hash, [cost] * workers * HASHES)))
        return made / (perf_counter() - began)


def _hash(cost: Cost) -> None:
    passwords.hashing(
        memory_kib=cost.memory_kib, time_cost=cost.time_cost, parallelism=cost.parallelism
    ).hash("a password of no one")
