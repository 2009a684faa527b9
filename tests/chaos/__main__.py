"""Breaks everything around the service while clients write, and checks that nothing was lost.

Prints the seed, each fault, the longest gaps and a verdict; the exit code is 1 when anything was
lost, doubled or different, or when the service was away for too long.
"""

import argparse
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from tests import canaries
from tests.chaos import faults
from tests.chaos.checks import differences
from tests.chaos.clients import CLIENTS, Client
from tests.chaos.faults import Happened
from tests.chaos.stage import USERS, WORKERS, Stage, stage
from tests.chaos.writes import Drawer

# From PostgreSQL's first word to the service's first good answer.
LONGEST_RETURN_SECONDS = 2.0
SHOWN, GAPS = 20, 3


def main() -> int:
    """Make chaos, print what came of it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--transfers", type=int, default=20_000, help="acknowledged ones (20,000)")
    parser.add_argument("--longest", type=float, default=600, help="seconds, then it fails (600)")
    chosen = parser.parse_args()
    canaries.listen()
    print(f"seed {chosen.seed}: {CLIENTS} clients, {USERS} users, {WORKERS} workers", flush=True)
    with stage() as scene:
        return _run(scene, chosen)


def _run(scene: Stage, chosen: argparse.Namespace) -> int:
    seed = chosen.seed
    clients = [
        Client(scene.server.port, Drawer(scene.users, scene.staff, scene.sku, f"{seed}-{number}"))
        for number in range(CLIENTS)
    ]
    enough, begun = threading.Event(), time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(client.run, enough) for client in clients]
        try:
            happened = _break(scene, chosen, clients, begun)
        finally:
            enough.set()
        for each in running:
            each.result()
    wrong = [sentence for client in clients for sentence in client.unexpected]
    acknowledged = [one for client in clients for one in client.acknowledged]
    times = sorted(one.at for one in acknowledged)
    wrong += _count(clients, chosen.transfers, seconds=time.monotonic() - begun)
    wrong += _gaps(times, happened, begun)
    wrong += differences(scene, acknowledged, seed)
    print(f"flask worker was started again {scene.worker_ends} times")
    for sentence in wrong[:SHOWN]:
        print(sentence)
    if len(wrong) > SHOWN:
        print(f"… and {len(wrong) - SHOWN} more")
    if wrong:
        print(f"logs: {scene.keep_logs(f'chaos-{seed}')}")
    verdict = f"FAILED, {len(wrong)} things are wrong" if wrong else "passed"
    untried = "" if scene.disk else "; no disk was filled up, since mounting a small one needs root"
    print(f"seed {seed}: {verdict}{untried}")
    return 1 if wrong else 0


def _break(
    scene: Stage, chosen: argparse.Namespace, clients: Sequence[Client], begun: float
) -> list[Happened]:
    """Let faults happen, each at least once, until enough transfers are acknowledged."""
    happened: list[Happened] = []
    for fault in faults.happen(scene, chosen.seed):
        happened.append(fault)
        print(f"{fault.begun - begun:6.1f} s  {fault.what}", flush=True)
        late = time.monotonic() - begun > chosen.longest
        done = _transfers(clients) >= chosen.transfers and len(happened) >= len(faults.FAULTS)
        if late or done:
            break
    return happened


def _transfers(clients: Sequence[Client]) -> int:
    return sum(
        one.made and one.write.kind == "transfer"
        for client in clients
        for one in list(client.acknowledged)
    )


def _count(clients: Sequence[Client], wanted: int, *, seconds: float) -> list[str]:
    """Print how many there were of everything, and complain when that is too few."""
    kinds = Counter(
        f"{one.write.kind} {'made' if one.made else 'refused'}"
        for client in clients
        for one in client.acknowledged
    )
    repeats = sum((client.repeats for client in clients), Counter[str]())
    print(f"in {seconds:.0f} s: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()))
    print("repeated: " + ", ".join(f"{n:,} for {why}" for why, n in repeats.most_common()))
    if kinds["transfer made"] < wanted:
        return [f"Only {kinds['transfer made']:,} transfers instead of {wanted:,}."]
    return []


def _gaps(times: Sequence[float], happened: Sequence[Happened], begun: float) -> list[str]:
    """Print how long the service was away, and complain of what it wasn't allowed."""
    gaps = sorted(((after - before, before) for before, after in pairwise(times)), reverse=True)
    if not gaps:
        return ["Hardly anything was acknowledged: there are no gaps to look at."]
    print("longest gaps between two good answers:")
    for gap, at in gaps[:GAPS]:
        causes = [fault.what for fault in happened if fault.begun <= at + gap]
        cause = f" ({causes[-1]})" if causes else ""
        print(f"  {gap:.2f} s, at {at - begun:.1f} s{cause}")
    returns = [
        (next((one for one in times if one > fault.ready), float("inf")) - fault.ready, fault)
        for fault in happened
        if fault.ready is not None
    ]
    if returns:
        longest, fault = max(returns, key=lambda each: each[0])
        print(
            f"PostgreSQL was away {len(returns)} times; once it was back, the first good answer"
            f" came after {longest:.2f} s at most ({fault.what}); {LONGEST_RETURN_SECONDS} s are"
            " allowed"
        )
    return [
        f"After {fault.what} ({fault.begun - begun:.1f} s) it took {seconds:.2f} s."
        for seconds, fault in returns
        if seconds > LONGEST_RETURN_SECONDS
    ]


if __name__ == "__main__":
    sys.exit(main())
