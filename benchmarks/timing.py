"""Measures whether the time of a refused login tells who has an account: `make bench-timing`.

Pairs of logins with a wrong password, one for a known and one for an unknown address, in random
order on one connection. The median of their differences must be too small to be of use; its
interval comes from the ranks of the differences and supposes nothing about how they are spread.
"""

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from http.client import HTTPConnection
from math import comb
from pathlib import Path
from statistics import median

from app import create_app
from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres
from app.platform.settings import PROJECT_ROOT, load_settings
from benchmarks.people import PEOPLE, fill
from benchmarks.stage import environment, free_port, server

PAIRS, WARM_UP = 500, 20
# 95 %: what lies beyond the interval on either side is at most one part in so many.
BEYOND = 40
WANTED_MS = 0.25
GUESS = secrets.token_urlsafe(12)


def main() -> int:
    """Measure and print; return 1 when the interval reaches beyond what is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of logins ({PAIRS})")
    count = parser.parse_args().pairs
    cores = sorted(os.sched_getaffinity(0))
    # PostgreSQL and the client inherit it; the service has the first core for itself.
    os.sched_setaffinity(0, cores[1:] or cores)
    (PROJECT_ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="timing-", dir=PROJECT_ROOT / "var") as folder:
        # A limit would answer before the hash.
        variables = environment(Path(folder), free_port()) | {"APP_RATE_LIMIT_ENABLED": "false"}
        pairs = measure(Path(folder), variables, count=count, core=cores[0])
    differences = [known - unknown for known, unknown in pairs]
    low, high = interval(differences)
    print(f"{len(pairs)} pairs of refused logins, known and unknown address in random order")
    print(f"known address:   {median(known for known, _ in pairs):.2f} ms in the middle")
    print(f"unknown address: {median(unknown for _, unknown in pairs):.2f} ms in the middle")
    print(
        f"median of the differences {median(differences):+.3f} ms,"
        f" 95% interval {low:+.3f} to {high:+.3f} ms"
    )
    within = max(-low, high) <= WANTED_MS
    print(f"{'within' if within else 'NOT within'} ±{WANTED_MS} ms")
    return 0 if within else 1


def measure(
    folder: Path, variables: dict[str, str], *, count: int, core: int
) -> list[tuple[float, float]]:
    """Return the milliseconds of each pair: known address, unknown address.

    Raises EmbeddedPostgresError or RuntimeError.
    """
    settings = load_settings(variables)
    database = EmbeddedPostgres.start(folder, say=lambda sentence: None)
    try:
        migrations.upgrade(settings)
        fill(settings, create_app(settings), folder=folder, repetitions=0)
        ready, log = f"{settings.public_url}/ready", folder / "service.log"
        with server(["gunicorn"], variables, address=ready, log=log, core=core):
            connection = HTTPConnection("127.0.0.1", settings.server_port, timeout=30)
            return [pair(connection, number) for number in range(WARM_UP + count)][WARM_UP:]
    finally:
        database.stop()


def pair(connection: HTTPConnection, number: int) -> tuple[float, float]:
    """Return the milliseconds of two logins: one of a known address, one of an unknown one."""
    addresses = {
        "known": f"person{number % PEOPLE + 1}@example.com",
        # As long as the other, and never seen before either.
        "unknown": f"nobody{number % PEOPLE + 1}@example.com",
    }
    taken = {}
    for kind in random.sample(list(addresses), 2):
        body = json.dumps({"email": addresses[kind], "password": GUESS})
        begun = time.perf_counter()
        connection.request("POST", "/api/v1/auth/login", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        taken[kind] = (time.perf_counter() - begun) * 1000
        if response.status != 401:
            raise RuntimeError(f"a login was answered with {response.status}")
    return taken["known"], taken["unknown"]


def interval(differences: list[float]) -> tuple[float, float]:
    """Return between which two differences the true median lies, by the sign test."""
    ordered, count = sorted(differences), len(differences)
    # Each difference falls to either side of the true median as a coin does.
    rank, below = -1, 0
    while (below := below + comb(count, rank + 1)) * BEYOND <= 2**count:
        rank += 1
    return ordered[rank], ordered[count - 1 - rank]


if __name__ == "__main__":
    sys.exit(main())
