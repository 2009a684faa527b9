"""Attacks the edge of the running service for minutes, and checks what it promises.

A hundred thousand requests of all kinds, slow clients, and ten times as many requests as it can
answer. Prints the figures and a verdict; the exit code is 1 when something doesn't hold.
"""

import argparse
import sys

from tests.soak import growth, overload, slow
from tests.soak.stage import ANSWERING, ASKING, stage

# Growth first: what 1,800 connections at once have taken, a worker keeps for the next ones.
CHECKS = ("growth", "slow", "transfer", "login", "mixed", "me")
REQUESTS = 100_000


def main() -> int:
    """Make all checks, or those that are named, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)} (all)")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="for growth (100,000)")
    chosen = parser.parse_args()
    if unknown := set(chosen.checks) - set(CHECKS):
        parser.error(f"there is no check {', '.join(sorted(unknown))}")
    wrong: list[str] = []
    with stage() as scene:
        print(f"PostgreSQL and a worker each on CPU {ANSWERING}, clients on {ASKING}", flush=True)
        for name in chosen.checks or CHECKS:
            if name == "slow":
                wrong += slow.check(scene)
            elif name == "growth":
                wrong += growth.check(scene, chosen.requests)
            else:
                wrong += overload.check(scene, name)
    for sentence in wrong:
        print(sentence)
    print(f"FAILED, {len(wrong)} things are wrong" if wrong else "passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
