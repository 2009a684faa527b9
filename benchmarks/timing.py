"""Measures whether the time of an answer tells who has an account: `make bench-timing`.

Pairs of requests, one for a known and one for an unknown address, in random order on one
connection: changes of one's own address and sign-ups in private mode, logins with a wrong password,
and lost passwords. The median of their differences must be too small to be of use; its interval
comes from the ranks of the differences and supposes nothing about how they are spread.
"""

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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

# On a small machine that does something else as well, the interval of 500 pairs is wider than what
# is wanted, and says nothing.
PAIRS, WARM_UP = 1500, 20
# 95 %: what lies beyond the interval on either side is at most one part in so many.
BEYOND = 40
WANTED_MS = 0.25
GUESS = secrets.token_urlsafe(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What may tell too much: where it goes, what it says of an address, and how it is answered."""

    path: str
    body: Callable[[str], dict[str, str]]
    status: int
    method: str = "POST"
    signed_in: bool = False


REQUESTS = {
    # First, because access tokens end a quarter of an hour after they were made.
    "changes of address in private": Request(
        path="/api/v1/users/me",
        body=lambda email: {"email": email},
        status=200,
        method="PATCH",
        signed_in=True,
    ),
    "refused logins": Request(
        path="/api/v1/auth/login",
        body=lambda email: {"email": email, "password": GUESS},
        status=401,
    ),
    "lost passwords": Request(
        path="/api/v1/auth/password/forgot", body=lambda email: {"email": email}, status=202
    ),
    "private sign-ups": Request(
        path="/api/v1/users",
        body=lambda email: {"email": email, "name": "Somebody", "password": GUESS},
        status=202,
    ),
}


def main() -> int:
    """Measure and print; return 1 when the interval reaches beyond what is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timing", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"of requests ({PAIRS})")
    count = parser.parse_args().pairs
    cores = sorted(os.sched_getaffinity(0))
    # PostgreSQL and the client inherit it; the service has the first core for itself.
    os.sched_setaffinity(0, cores[1:] or cores)
    (PROJECT_ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="timing-", dir=PROJECT_ROOT / "var") as folder:
        variables = environment(Path(folder), free_port()) | {
            # A limit would answer before the hash.
            "APP_RATE_LIMIT_ENABLED": "false",
            "APP_AUTH_SIGNUP_MODE": "private",
            # Nothing is sent: no worker runs.
            "APP_MAIL_URL": "smtp://127.0.0.1:25",
            "APP_MAIL_FROM": "bursar@example.com",
        }
        measured = measure(Path(folder), variables, count=count, core=cores[0])
    reports = [report(name, pairs) for name, pairs in measured.items()]
    return 0 if all(reports) else 1


def report(name: str, pairs: list[tuple[float, float]]) -> bool:
    """Print what the pairs of a kind say; tell whether it is too little to be of use."""
    differences = [known - unknown for known, unknown in pairs]
    low, high = interval(differences)
    within = max(-low, high) <= WANTED_MS
    print(f"{len(pairs)} pairs of {name}, known and unknown address in random order")
    print(f"  known address:   {median(known for known, _ in pairs):.2f} ms in the middle")
    print(f"  unknown address: {median(unknown for _, unknown in pairs):.2f} ms in the middle")
    print(
        f"  median of the differences {median(differences):+.3f} ms,"
        f" 95% interval {low:+.3f} to {high:+.3f} ms:"
        f" {'within' if within else 'NOT within'} ±{WANTED_MS} ms"
    )
    return within


def measure(
    folder: Path, variables: dict[str, str], *, count: int, core: int
) -> dict[str, list[tuple[float, float]]]:
    """Return the milliseconds of each pair of each kind: known address, unknown address.

    Raises EmbeddedPostgresError or RuntimeError.
    """
    settings = load_settings(variables)
    database = EmbeddedPostgres.start(folder, say=lambda sentence: None)
    try:
        migrations.upgrade(settings)
        people = fill(settings, create_app(settings), folder=folder, repetitions=0)
        tokens = [line.partition("\t")[0] for line in people.members.read_text().splitlines()]
        ready, log = f"{settings.public_url}/ready", folder / "service.log"
        with server(["gunicorn"], variables, address=ready, log=log, core=core):
            connection = HTTPConnection("127.0.0.1", settings.server_port, timeout=30)
            return {
                name: [
                    pair(connection, request, number, tokens=tokens)
                    for number in range(WARM_UP + count)
                ][WARM_UP:]
                for name, request in REQUESTS.items()
            }
    finally:
        database.stop()


def pair(
    connection: HTTPConnection, request: Request, number: int, *, tokens: list[str]
) -> tuple[float, float]:
    """Return the milliseconds of two requests: one of a known address, one of an unknown one.

    Where one must be signed in, two people ask who are neither each other nor the known address's.

    Raises RuntimeError when an answer isn't the expected one.
    """
    addresses = {
        "known": f"person{number % PEOPLE + 1}@example.com",
        # As long as the other, and never seen before either.
        "unknown": f"nobody{number % PEOPLE + 1}@example.com",
    }
    taken = {}
    for place, kind in enumerate(random.sample(list(addresses), 2), start=1):
        body = json.dumps(request.body(addresses[kind]))
        headers = {"Content-Type": "application/json"}
        if request.signed_in:
            headers["Authorization"] = f"Bearer {tokens[(number + place) % PEOPLE]}"
        begun = time.perf_counter()
        connection.request(request.method, request.path, body, headers)
        response = connection.getresponse()
        response.read()
        taken[kind] = (time.perf_counter() - begun) * 1000
        if response.status != request.status:
            raise RuntimeError(f"{request.path} was answered with {response.status}")
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
