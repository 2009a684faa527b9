"""Counts requests, their durations and what features do, summed over all workers of this machine.

Under gunicorn each worker writes to memory-mapped files named by its *slot*, a small number that a
replaced worker takes over: files named by process id would pile up with every restart, and a
scrape reads them all. Elsewhere (tests, commands, `flask worker`) the numbers stay in the process.

Counters outlive their worker. Gauges say what is so in one worker now, under its slot, and go with
it. All of it are floats, here and in Prometheus: exact for integers up to 2^53.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Generic, TypeVar

from gevent import get_hub
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MultiProcessValue

Kind = TypeVar("Kind", Counter, Gauge, Histogram)

# The library declares no types for these.
_value_by_slot: Any = MultiProcessValue
_collect_slots: Any = MultiProcessCollector
_remove_gauges: Any = mark_process_dead
_leave_out_created: Any = disable_created_metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# From a cached read to a request that is cut at its deadline, in seconds.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From one quick statement to one that the server cuts. Fewer: every route has them once more.
DATABASE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10)
# What the library begins a file with, and doubles when it is full.
FILE_BYTES = 1 << 16
_registry = CollectorRegistry()
_making = threading.Lock()
_slot = "master"
_folder: Path | None = None
# When each one was made is a series more for every counter, which nobody asks for.
_leave_out_created()


class Family(Generic[Kind]):
    """A metric that is declared at import, and made when it is needed: `share` comes before that.

    The values of its labels are few and come from our code, never from what somebody has sent.
    Those that are known beforehand are shown from the start: Prometheus sees an increase only of
    what was there before.
    """

    def __init__(self, make: Callable[[], Kind], known: Iterable[Sequence[str]]) -> None:
        """Take how to make it, and the values of its labels that are known."""
        self._make: Callable[[], Kind] = make
        self._known = list(known)
        self._whole: Kind | None = None
        self._children: dict[tuple[str, ...], Kind] = {}
        _declared.append(self)

    def of(self, *labels: str) -> Kind:
        """Return what counts under these values of the labels, in the order of the labels."""
        # Looking one up in the library costs more than counting.
        child = self._children.get(labels)
        return self._child(labels) if child is None else child

    def show(self) -> None:
        """Make it, with what is known beforehand."""
        self._get()
        for labels in self._known:
            self.of(*labels)

    def _get(self) -> Kind:
        # Two threads that made it at once would both register it, which the library refuses.
        with _making:
            if self._whole is None:
                self._whole = self._make()
            return self._whole

    def _child(self, labels: tuple[str, ...]) -> Kind:
        whole = self._get()
        self._children[labels] = whole.labels(*labels) if labels else whole
        return self._children[labels]


_declared: list[Family[Any]] = []
_sampled: list[tuple[Family[Gauge], Callable[[], float]]] = []


def counter(name: str, says: str, **labels: Iterable[str]) -> Family[Counter]:
    """Declare a counter: of each label, the values that are known beforehand."""
    names = tuple(labels)
    return Family(lambda: Counter(name, says, names, registry=_registry), product(*labels.values()))


def histogram(
    name: str, says: str, *, buckets: Sequence[float], **labels: Iterable[str]
) -> Family[Histogram]:
    """Declare a histogram with these upper bounds."""
    names = tuple(labels)
    return Family(
        lambda: Histogram(name, says, names, buckets=buckets, registry=_registry),
        product(*labels.values()),
    )


def gauge(name: str, says: str, read: Callable[[], float]) -> None:
    """Declare a number that `sample` reads in each process, shown by `worker`, its slot."""
    family = Family(
        lambda: Gauge(name, says, ("worker",), registry=_registry, multiprocess_mode="livesum"), ()
    )
    _sampled.append((family, read))


_answered = counter("http_requests_total", "Answered requests.", method=(), route=(), status=())
_duration = histogram(
    "http_request_duration_seconds",
    "Time from when the request came to the end of its answer.",
    buckets=BUCKETS,
    method=(),
    route=(),
)
_database = histogram(
    "http_request_database_seconds",
    "Time that the database took of a request that asked it.",
    buckets=DATABASE_BUCKETS,
    method=(),
    route=(),
)


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
    """Count under this slot from now on, each running worker under another one; show all there is.

    The application must be loaded: what a module declares later is shown once it counts.
    """
    global _slot
    _slot = str(slot)
    if _folder is not None:
        for kind in ("counter", "histogram", "gauge_livesum"):
            _make_file(_folder, f"{kind}_{slot}")
    _show_all()


def free_slot(taken: set[int]) -> int:
    """Return the lowest slot that isn't taken, so that their number never grows."""
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def vacate(slot: int) -> None:
    """Forget the gauges of a worker that has ended; its counters stay for the next of its slot."""
    if _folder is not None:
        _remove_gauges(slot, path=str(_folder))


def forget() -> None:
    """Remove the shared files, when the service ends."""
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


def observe(
    method: str, route: str | None, status: int, seconds: float, database_seconds: float = 0.0
) -> None:
    """Count an answered request: how long it took, and what of that the database did, if it did.

    Labels come from closed sets, so that their number is bounded.
    """
    known, route = method if method in METHODS else "OTHER", route or "none"
    _answered.of(known, route, str(status)).inc()
    _duration.of(known, route).observe(seconds)
    if database_seconds:
        _database.of(known, route).observe(database_seconds)


def sample() -> None:
    """Read the gauges of this process anew."""
    for family, read in _sampled:
        family.of(_slot).set(read())


def exposition() -> bytes:
    """Return all numbers in Prometheus's text format; gauges of workers as last sampled."""
    if _folder is None:
        _show_all()
        sample()
        return generate_latest(_registry)
    # Adding up takes tens of milliseconds. In a thread, so that the worker's other requests get
    # their turns meanwhile: on the loop all of them would wait for each scrape.
    shown: bytes = get_hub().threadpool.apply(_added_up, (_folder,))
    return shown


def _added_up(folder: Path) -> bytes:
    registry = CollectorRegistry()
    _collect_slots(registry, path=str(folder))
    return generate_latest(registry)


def _show_all() -> None:
    for family in _declared:
        family.show()


def _make_file(folder: Path, name: str) -> None:
    """Make a file of a slot, whole at once, unless it is there.

    The library makes an empty one and then its length; a scrape in between would fail.
    """
    made, file = folder / f"{name}.new", folder / f"{name}.db"
    if not file.exists():
        with made.open("wb") as new:
            new.truncate(FILE_BYTES)
        made.rename(file)


def _emptied(folder: Path) -> Path:
    """Return the folder, new and empty, or a temporary one when that isn't possible."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="bursar-metrics-"))
    return folder
