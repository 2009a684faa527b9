"""Shows numbers that features read in the database when somebody scrapes the metrics.

A scrape needs them least of all: while the database is away or slow they are left out.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from gevent import Timeout
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from sqlalchemy.exc import DBAPIError

from app.platform import db
from app.platform.errors import Unavailable
from app.platform.turns import going_first

READ_SECONDS = 1.0
KEPT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number of one moment, under its name in the metrics."""

    name: str
    says: str
    value: float


Reader: TypeAlias = Callable[[], Sequence[Gauge]]


class Gauges:
    """What readers give, at most once every KEPT_SECONDS, however often it is asked for."""

    def __init__(self, *readers: Reader) -> None:
        """Start with nothing known; each reader is one statement, and raises what that does."""
        self._readers = readers
        self._known: Sequence[Gauge] = ()
        self._until = 0.0
        self._one_at_a_time = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return the numbers in Prometheus's text format; it takes READ_SECONDS at most.

        What one reader can't read leaves the others' numbers as they are.
        """
        with self._one_at_a_time:
            if monotonic() >= self._until:
                self._known = _read_all(self._readers)
                self._until = monotonic() + KEPT_SECONDS
        return generate_latest(self._registry)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Give what is known, as the library asks for it."""
        return [GaugeMetricFamily(one.name, one.says, value=one.value) for one in self._known]


def _read_all(readers: Iterable[Reader]) -> Sequence[Gauge]:
    found: list[Gauge] = []
    if not db.pool_is_open():
        return found
    limit = Timeout(READ_SECONDS)
    try:
        with limit, going_first():
            for read in readers:
                found += _read(read)
    except Timeout as late:
        if late is not limit:
            raise
    return found


def _read(read: Reader) -> Sequence[Gauge]:
    try:
        return read()
    except Unavailable:
        return ()
    # A mistake in the statement as well: during an update the schema may be older than this.
    except DBAPIError:
        return ()
