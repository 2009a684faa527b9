"""Shows how each process of ours is: how late its event loop is, and how much memory it has."""

import re
from math import nan
from pathlib import Path
from time import monotonic
from typing import Any

import gevent

from app.platform import metrics

# How often the gauges are read anew, and a timer looks how late it is.
PAUSE_SECONDS = 0.5
# Adding up the pages takes a millisecond or two, in which nothing else happens.
MEMORY_SECONDS = 15.0
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

_lag = metrics.histogram(
    "event_loop_lag_seconds",
    "How late a timer comes that asks every half second: what else waits waits as long.",
    buckets=LAG_BUCKETS,
)
_watcher: Any = None


def start() -> None:
    """Measure this worker from now on; once, after the fork and with the slot chosen."""
    global _watcher
    if _watcher is None:
        _watcher = gevent.spawn(_watch)


def note_pause(began: float) -> None:
    """Note how late a pause of PAUSE_SECONDS has ended, which began at that monotonic time."""
    _lag.of().observe(max(monotonic() - began - PAUSE_SECONDS, 0.0))


def _watch() -> None:
    while True:
        metrics.sample()
        began = monotonic()
        gevent.sleep(PAUSE_SECONDS)
        note_pause(began)


class _Memory:
    """The memory of this process in bytes, looked up now and then."""

    def __init__(self) -> None:
        self._known = nan
        self._until = 0.0

    def __call__(self) -> float:
        if monotonic() >= self._until:
            self._known = _proportional_set()
            self._until = monotonic() + MEMORY_SECONDS
        return self._known


def _proportional_set() -> float:
    """Return the bytes of this process alone, and its share of those that several have."""
    try:
        rollup = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return nan
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    return nan if found is None else int(found[1]) * 1024.0


metrics.gauge(
    "worker_memory_bytes",
    "Memory of the process; what it shares with others counts by its share.",
    _Memory(),
)
