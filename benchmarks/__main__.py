"""Runs all measurements, interleaved, and prints the ratios."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from app.platform.settings import PROJECT_ROOT
from benchmarks import load
from benchmarks.load import Figures
from benchmarks.people import PEOPLE
from benchmarks.stage import Stage, environment, free_port, seconds_to_start, stage, worker_pss

CLIENTS, MANY_CLIENTS, LOGIN_CLIENTS, BUYERS = 16, 64, 4, 200
STARTS, WARM_UP_SECONDS = 3, 4
# Each connection of a crowd makes plans at first, which takes them some seconds together.
CROWD_TIMES = 5
# What is compared, with what, and the ratio that it must reach.
RATIOS = (
    ("GET /users/me", "me", "FastAPI", "fastapi me", 3.0),
    ("GET /users, 20 of them", "list", "FastAPI", "fastapi list", 3.0),
    ("POST /credits/transfers", "transfer", "pgbench", "pgbench", 0.5),
    ("POST /auth/login", "login", "argon2 alone", "argon2", 0.9),
    ("POST /auth/refresh", "refresh", "GET /users/me", "me", 0.5),
    ("order and pay, one product", "one product", "a product each", "own products", 0.9),
    ("200 payers of one house", "one house", "disjoint pairs", "pairs", 0.9),
)
FAIRNESS = (("/health", "health, many"), ("/users/me", "me, many"))
FAIREST = 4.0
START_SECONDS, WORKER_MB = 3.0, 60.0

Repetition = dict[str, Figures]


def main() -> int:
    """Measure and print; return the exit code, which doesn't depend on the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="length of each run (3)")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each kind (3)")
    arguments = parser.parse_args()
    if missing := load.missing():
        print(f"Not on this machine: {', '.join(missing)}", file=sys.stderr)
        return 1
    cores = sorted(os.sched_getaffinity(0))
    # PostgreSQL and the clients inherit it; what is measured has the first core for itself.
    os.sched_setaffinity(0, cores[1:] or cores)
    (PROJECT_ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=PROJECT_ROOT / "var") as folder:
        variables = environment(Path(folder), free_port())
        with stage(
            Path(folder), variables, core=cores[0], repetitions=arguments.repetitions
        ) as running:
            warm_up(running)
            repetitions = [
                repetition(running, number, core=cores[0], seconds=arguments.seconds)
                for number in range(arguments.repetitions)
            ]
            memory = worker_pss(running.service_pid)
        os.sched_setaffinity(0, cores)
        starts = [seconds_to_start(variables) for _ in range(STARTS)]
    print(report(repetitions, memory=memory, starts=starts))
    return 0


def warm_up(running: Stage) -> None:
    """Show each server all tokens once, so that the figures are those of clients that come back."""
    for url in (running.service, running.yardstick):
        load.wrk(
            "me",
            url,
            clients=CLIENTS,
            seconds=WARM_UP_SECONDS,
            people=running.people.members,
            password=running.people.password,
        )


def repetition(running: Stage, number: int, *, core: int, seconds: float) -> Repetition:
    """Return the figures of one run of each kind; every second repetition goes backwards."""
    people, service = running.people, running.service
    ask = partial(
        load.wrk,
        seconds=seconds,
        clients=CLIENTS,
        people=people.members,
        password=people.password,
    )
    pgbench = partial(
        load.pgbench,
        running.pgbench,
        running.pgbench_environ,
        core=core,
        seconds=seconds,
        people=PEOPLE,
    )
    crowd = partial(pgbench, clients=BUYERS, seconds=CROWD_TIMES * seconds, apart=True)
    runs: dict[str, Callable[[], Figures]] = {
        "health": partial(ask, "health", service),
        "me": partial(ask, "me", service),
        "fastapi me": partial(ask, "me", running.yardstick),
        "list": partial(ask, "list", service, people=people.staff),
        "fastapi list": partial(ask, "list", running.yardstick, people=people.staff),
        "transfer": partial(ask, "transfer", service),
        "pgbench": partial(pgbench, clients=CLIENTS),
        "pairs": crowd,
        "one house": partial(crowd, shop=True),
        "own products": partial(ask, "own products", service, clients=BUYERS),
        "one product": partial(ask, "one product", service, clients=BUYERS),
        "login": partial(ask, "login", service, clients=LOGIN_CLIENTS),
        "argon2": partial(
            load.argon2, people.password, people.password_hash, core=core, seconds=seconds
        ),
        "refresh": partial(ask, "refresh", service, people=people.refreshers[number]),
        "health, many": partial(ask, "health", service, clients=MANY_CLIENTS),
        "me, many": partial(ask, "me", service, clients=MANY_CLIENTS),
    }
    figures = {}
    for name in reversed(runs) if number % 2 else runs:
        print(f"repetition {number + 1}: {name}", file=sys.stderr, flush=True)
        figures[name] = runs[name]()
    return figures


def report(repetitions: list[Repetition], *, memory: float, starts: list[float]) -> str:
    """Return the table: medians over the repetitions, least and greatest ratio in brackets."""

    def middle(name: str) -> Figures:
        runs = [figures[name] for figures in repetitions]
        return Figures(
            rate=median(run.rate for run in runs),
            p50=median(run.p50 for run in runs),
            p99=median(run.p99 for run in runs),
        )

    lines = [
        f"calibration: /health {middle('health').rate:,.0f} per second, one worker on one core",
        "",
        f"| {'what':<26} | {'against':<14} | ratio (least to greatest) | wanted "
        "|  per second | yardstick's |  p50, p99 ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for what, ours, against, theirs, wanted in RATIOS:
        ratios = [figures[ours].rate / figures[theirs].rate for figures in repetitions]
        spread = f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"
        own, other = middle(ours), middle(theirs)
        lines.append(
            f"| {what:<26} | {against:<14} | {spread:<25} | {wanted:>6} "
            f"| {own.rate:>11,.0f} | {other.rate:>11,.0f} | {own.p50:>5.1f}, {own.p99:>5.1f} |"
        )
    lines += ["", "| what | measured | wanted |", "| --- | --- | --- |"]
    for path, name in FAIRNESS:
        ratios = [figures[name].p99 / figures[name].p50 for figures in repetitions]
        spread = f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        lines.append(f"| p99 over p50 at {MANY_CLIENTS} clients, {path} | {spread} | < {FAIREST} |")
    slowest, usual = max(starts), median(starts)
    lines.append(
        f"| seconds to start, database included | {usual:.1f} ({slowest:.1f} at most) "
        f"| <= {START_SECONDS} |"
    )
    lines.append(
        f"| memory of the worker after all this (PSS) | {memory:.0f} MB | <= {WORKER_MB} |"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
