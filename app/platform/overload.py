"""Keeps requests waiting while too many need the database, and refuses what would wait too long.

Whatever comes on a connection waits here as it came, before it costs anything: work that has begun
holds memory, and is lost when it is refused later. All requests need the database; some need more,
such as a place in the queue for hashing passwords, and wait for that apart from the others while
nobody waits for the database. A whole and simple request is refused unread, in the event loop;
anything else takes the ordinary way, and the edge refuses it. Probes never wait.
"""

import re
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent

from app.platform import db, logging, metrics, unread

# Whoever would wait longer than this is better refused: beyond it, clients give up or repeat, and
# the time is spent on answers that nobody reads.
LONGEST_WAIT_SECONDS = 0.4
# But a client that gets its refusal at once sends the next request at once. So long it is kept
# waiting in any case; often the crowd is over by then, and it gets its answer.
PAUSE_SECONDS = 0.1
# Longer than this nobody waits unread, also while it is measured how fast they are let in.
MOST_SECONDS = 0.8
# How fast they are let in is measured over at least so long, because places come back in bursts.
WINDOW_SECONDS = 0.1
# How many may wait for the database until that was measured.
UNMEASURED = 400.0
# How often it is looked who can be let in, or waits too long. Many at once cost less each than one
# at a time.
TICK_SECONDS = 0.01
# So many are let in at a time, because some wait for something else before they ask the database;
# and so many are read to be refused, because all else waits meanwhile.
LET_IN_AT_ONCE, READ_AT_ONCE = 5, 20
REPORT_SECONDS = 1.0

PROBES = frozenset({"/health", "/healthz", "/ready", "/metrics"})
_PROBE = re.compile(rf"(?:GET|HEAD) (?:{'|'.join(sorted(PROBES))})[ ?]".encode())
_refusals = metrics.counter(
    "overload_refusals_total",
    "Requests that were refused unread, because too many waited for what they need.",
)
_waits = metrics.histogram(
    "overload_wait_seconds",
    "How long those waited unread who were let in.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
metrics.gauge(
    "overload_waiting",
    "Requests that wait unread.",
    lambda: sum(len(room.kept) for room in _rooms()),
)
log = logging.get_logger(__name__)


class Visitor(Protocol):
    """A connection on which a request has come, with what of it is unread."""

    unread: bytes

    def admit(self, *, waited: float = 0.0, in_vain: bool = False) -> None:
        """Have what came so many seconds ago read and answered; `in_vain` with a refusal."""

    def end(self) -> None:
        """End the connection."""

    def refuse(self, answer: bytes, *, closes: bool) -> bool:
        """Send this answer instead, and end the connection if it `closes`; tell whether it went."""


class Room:
    """Requests that wait unread for the same thing, in the order in which they came."""

    def __init__(self, is_full: Callable[[], bool], *, most: float = 0.0) -> None:
        """Let in whenever `is_full()` denies it; until it was measured, so many may wait."""
        self.is_full = is_full
        self.kept: deque[tuple[float, Visitor]] = deque()
        # Since when so many were let in, and how many may wait at that speed.
        self._since, self._let_in, self._most = 0.0, 0, most

    def keep(self, visitor: Visitor) -> None:
        """Take in a request behind the others."""
        now = monotonic()
        if not self.kept:
            # How many were let in while nobody waited tells nothing about the speed.
            self._since, self._let_in = now, 0
        self.kept.append((now, visitor))

    def let_in(self) -> None:
        """Admit those who have waited longest, as long as there is room for them."""
        kept = self.kept
        for _ in range(min(len(kept), LET_IN_AT_ONCE)):
            if self.is_full():
                return
            came, visitor = kept[0]
            waited = monotonic() - came
            _waits.of().observe(waited)
            self._let_in += 1
            visitor.admit(waited=waited)
            kept.popleft()

    def turn_away(self) -> int:
        """Refuse those who have waited longest while too many wait, and return how many unread."""
        now, refused, kept = monotonic(), 0, self.kept
        if kept and now - self._since >= WINDOW_SECONDS:
            self._measure(now)
        read = 0
        while kept and read < READ_AT_ONCE:
            came, visitor = kept[0]
            if now - came < (PAUSE_SECONDS if self.is_crowded() else MOST_SECONDS):
                break
            request = unread.look_at(visitor.unread)
            if request is not None:
                closes = request.closes or _stops
                refused += visitor.refuse(unread.refusal(request, closes=closes), closes=closes)
            else:
                read += 1
                visitor.admit(waited=now - came, in_vain=True)
            kept.popleft()
        return refused

    def is_crowded(self) -> bool:
        """Tell whether more wait than can be let in within LONGEST_WAIT_SECONDS."""
        return len(self.kept) > self._most

    def _measure(self, now: float) -> None:
        """Note how many may wait at the speed at which they were let in lately."""
        measured = self._let_in / (now - self._since) * LONGEST_WAIT_SECONDS
        # Half of it is what was known before: one pause of the database is no crowd yet.
        self._most = (self._most + measured) / 2
        self._since, self._let_in = now, 0


class Pace:
    """Tells whether so many were let in during this tick."""

    def __init__(self, number: int) -> None:
        """Let in so many during each tick."""
        self._number = number
        self._begun, self._let_in = 0.0, 0

    def __call__(self) -> bool:
        """Tell that, and if not, count the one who is let in now."""
        now = monotonic()
        if now - self._begun >= TICK_SECONDS * 0.9:
            self._begun, self._let_in = now, 0
        if self._let_in >= self._number:
            return True
        self._let_in += 1
        return False


# Who waits for the database, and how requests begin that wait for something else first.
_database = Room(db.pool_is_full, most=UNMEASURED)
_needs: dict[bytes, Room] = {}
_stops = False
_timer: Any = None
_refused = _unreported = 0
_reported_at = 0.0


def also_wait_for(room: Room, *beginnings: str) -> None:
    """Keep requests that begin like this, such as `POST /x `, in this room."""
    _needs.update({beginning.encode(): room for beginning in beginnings})


def keep_waiting(visitor: Visitor, beginning: bytes) -> bool:
    """Tell whether a request that begins like this waits for its turn.

    Then the visitor hears later whether it is admitted or refused.
    """
    global _timer
    room = _full_room(beginning)
    if room is None or _PROBE.match(beginning):
        return False
    if _timer is None:
        _timer = gevent.get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
    if not _timer.active:
        _timer.start(_look_after)
    room.keep(visitor)
    return True


def let_in_soon() -> None:
    """Have those let in for whom there is room now, because a request has ended."""
    if _database.kept:
        gevent.get_hub().loop.run_callback(_database.let_in)


def stop() -> None:
    """Have refusals end their connections from now on: the next request goes to another server."""
    global _stops
    _stops = True


def cut_all() -> None:
    """End all connections that wait unread."""
    gevent.get_hub().loop.run_callback(_end_all)


def report() -> None:
    """Count the refusals since the last call; the log has one line a second for all of them."""
    global _refused, _unreported, _reported_at
    if _refused:
        _refusals.of().inc(_refused)
        _unreported, _refused = _unreported + _refused, 0
    now = monotonic()
    if _unreported and now - _reported_at >= REPORT_SECONDS:
        log.warning("overloaded", refused=_unreported)
        _unreported, _reported_at = 0, now


def _rooms() -> set[Room]:
    return {*_needs.values(), _database}


def _full_room(beginning: bytes) -> Room | None:
    """Return where a request has to wait, None if nowhere."""
    if _database.kept or _database.is_full():
        return _database
    for each, room in _needs.items():
        if beginning.startswith(each) and (room.kept or room.is_full()):
            return room
    return None


def _look_after() -> None:
    """Let in, refuse, and stop when nobody waits any more. This runs in the event loop."""
    global _refused
    try:
        for room in _rooms():
            room.let_in()
            _refused += room.turn_away()
    except BaseException:
        # Nobody else would ever end them.
        _end_all()
        raise
    if not any(room.kept for room in _rooms()):
        _timer.stop()
        unread.forget()


def _end_all() -> None:
    for room in _rooms():
        while room.kept:
            room.kept.popleft()[1].end()
    unread.forget()
