"""Sends very many requests of all kinds, and looks whether a worker grows by them."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.soak.load import Plan, run
from tests.soak.stage import Stage

CONNECTIONS = 16
# Between two looks at the workers. After the first of them everything that is made once is there.
STEPS = 5
MOST_MB, MOST_GROWTH_MB = 60.0, 3.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a worker holds: memory in MB, shared pages by their share, and what can leak besides."""

    pss: float
    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.pss:.1f} MB, {self.files} files, {self.threads} threads"


def check(scene: Stage, requests: int) -> list[str]:
    """Send so many, print how large each worker is after each step, and return what is wrong."""
    sizes: list[list[Size]] = []
    wrong: list[str] = []
    sent = 0
    while sent < requests:
        plan = Plan(
            port=scene.port,
            kind="mixed",
            people=str(scene.members),
            password=scene.password,
            rate=0,
            number=requests // STEPS,
            seconds=600,
            connections=CONNECTIONS,
            seed=secrets.randbelow(10**9),
        )
        outcome = run(plan)
        sent += outcome.sent
        wrong += [f"growth: {times} requests: {why}" for why, times in outcome.failed.items()]
        sizes.append([size(worker) for worker in scene.workers()])
        print(f"growth: after {sent:,} requests " + "; ".join(map(str, sizes[-1])), flush=True)
    for first, last in zip(sizes[0], sizes[-1], strict=True):
        if last.pss > MOST_MB:
            wrong.append(f"growth: a worker has {last.pss:.1f} MB.")
        if last.pss - first.pss > MOST_GROWTH_MB:
            wrong.append(f"growth: a worker grew from {first.pss:.1f} to {last.pss:.1f} MB.")
        if last.files > first.files or last.threads > first.threads:
            wrong.append(f"growth: a worker went from {first} to {last}.")
    return wrong


def size(worker: psutil.Process) -> Size:
    """Measure a process."""
    rollup = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
    kilobytes = int(rollup.partition("\nPss:")[2].split()[0])
    return Size(pss=kilobytes / 1024, files=worker.num_fds(), threads=worker.num_threads())
