"""Counts requests, their durations and what features do, summed over all workers of this machine.

Under gunicorn each worker writes to memory-mapped files named by its *slot*, a small number that a
replaced worker takes over: files named by process id would pile up with every restart, and a
scrape reads them all. Elsewhere (tests, commands) the numbers stay in the process.
"""

import os
import shutil
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MultiProcessValue

# The library declares no types for these two.
_value_by_slot: Any = MultiProcessValue
_collect_slots: Any = MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# From a cached read to a request that is cut at its deadline, in seconds.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_registry = CollectorRegistry()
_making = threading.Lock()
_slot = "master"
_folder: Path | None = None


def share(folder: Path) -> None:
    """Let the processes forked from this one count together, through files in a folder.

    The folder is emptied, or replaced by a temporary one when it can't be written. Must run before
    the first request is counted; a repeated call changes nothing.
    """
    global _folder
    if _folder is not None:
        return
    _folder = _emptied(folder)
    # The library finds its folder only through the environment.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_folder)
    values.ValueClass = _value_by_slot(process_identifier=lambda: _slot)


def use_slot(slot: int) -> None:
    """Count under this slot from now on; each running worker has another one."""
    global _slot
    _slot = str(slot)


def free_slot(taken: set[int]) -> int:
    """Return the lowest slot that isn't taken, so that their number never grows."""
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def forget() -> None:
    """Remove the shared files, when the service ends."""
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


def observe(*, method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. Labels come from closed sets, so that their number is bounded."""
    known = method if method in METHODS else "OTHER"
    count, duration = _children(known, route or "none", status)
    count.inc()
    duration.observe(seconds)


def count_refusal(limit: str) -> None:
    """Count a request that met a limit; `limit` is its name in the code."""
    counter("rate_limit_refusals_total", "Requests that met a limit.", "limit").labels(limit).inc()


def count_storage_fault() -> None:
    """Count a fault of what limits are counted in."""
    says = "Times that the store of the limits' counters could not be asked."
    counter("rate_limit_storage_faults_total", says).inc()


def counter(name: str, says: str, *labels: str) -> Counter:
    """Return the counter of a name, for a feature to count with; the labels' values are few.

    To be called where something is counted and not at import: `share` comes before the first one.
    """
    # Two threads that made it at once would both register it, which the library refuses.
    with _making:
        return _counter(name, says, labels)


def exposition() -> bytes:
    """Return all numbers in Prometheus's text format."""
    if _folder is None:
        return generate_latest(_registry)
    registry = CollectorRegistry()
    _collect_slots(registry, path=str(_folder))
    return generate_latest(registry)


@cache
def _counter(name: str, says: str, labels: tuple[str, ...]) -> Counter:
    return Counter(name, says, labels, registry=_registry)


@cache
def _durations() -> Histogram:
    return Histogram(
        "http_request_duration_seconds",
        "Time from the request's headers to the end of its answer.",
        ("method", "route"),
        buckets=BUCKETS,
        registry=_registry,
    )


@cache
def _children(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    # Looking a child up by its labels costs more than counting; these are few and live for ever.
    answered = counter("http_requests_total", "Answered requests.", "method", "route", "status")
    return answered.labels(method, route, str(status)), _durations().labels(method, route)


def _emptied(folder: Path) -> Path:
    """Return the folder, new and empty, or a temporary one when that isn't possible."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="bursar-metrics-"))
    return folder
