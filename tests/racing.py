"""Does things at the same moment: a few times in each run, and often in `make test-long`."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ROUNDS = int(os.environ.get("TEST_ROUNDS", "5"))
RUNNERS = 32
SECONDS = float(os.environ.get("TEST_SECONDS", "3"))


def at_once(work: Callable[[int], Any], number: int) -> list[Any]:
    """Run `work` that many times at the same moment, and return what each returned, or raise."""
    gate = threading.Barrier(number)

    def run(index: int) -> Any:
        gate.wait(timeout=10)
        return work(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(run, range(number)))
