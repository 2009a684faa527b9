"""Ends work that takes too long: one timer looks at all running requests, not one timer for each.

`RequestDeadline` and `BodyDeadline` are BaseExceptions, so that no `except Exception` in between
takes them for an error to recover from; context managers and `finally` see them like any other.
"""

from math import inf
from time import monotonic
from typing import Any

from gevent import get_hub, getcurrent

# How long a request may take, and its body alone. time_limits.py holds them against all others.
REQUEST_SECONDS = 30.0
BODY_SECONDS = 10.0
SWEEP_SECONDS = 0.25


class RequestDeadline(BaseException):
    """The request took too long, or the worker can't wait for it any longer."""


class BodyDeadline(BaseException):
    """The client took too long to send its body."""


class Deadline:
    """The moment at which a greenlet gets an exception, unless it is moved or ended before."""

    __slots__ = ("_greenlet", "ends", "error")

    def __init__(self, seconds: float) -> None:
        """Start to count for the calling greenlet; `end` must follow."""
        self._greenlet: Any = getcurrent()
        self.error: type[BaseException] = RequestDeadline
        self.ends = monotonic() + seconds
        _running.add(self)

    def move(self, seconds: float, error: type[BaseException] = RequestDeadline) -> None:
        """Count anew from now."""
        self.error = error
        self.ends = monotonic() + seconds

    def pause(self) -> None:
        """Stop counting; only `cut_all` still reaches the greenlet."""
        self.ends = inf

    def end(self) -> None:
        """Forget the greenlet; may be called again."""
        _running.discard(self)

    def strike(self) -> None:
        """Throw the exception into the greenlet; only from the hub, while nobody else moves."""
        # Once is enough. Whoever cleans up after it gets its time, with the usual limits below.
        self.ends = inf
        self._greenlet.throw(self.error())


_running: set[Deadline] = set()
_sweeper: Any = None


def start_sweep() -> None:
    """Enforce deadlines in this process from now on; once, after the fork."""
    global _sweeper
    if _sweeper is None:
        _sweeper = get_hub().loop.timer(SWEEP_SECONDS, SWEEP_SECONDS, ref=False)
        _sweeper.start(_sweep)


def cut_all() -> int:
    """End all running requests as if their time were over, and tell how many there are."""
    for deadline in _running:
        get_hub().loop.run_callback(_cut, deadline)
    return len(_running)


def _cut(deadline: Deadline) -> None:
    if deadline in _running:
        deadline.error = RequestDeadline
        deadline.strike()


def _sweep() -> None:
    now = monotonic()
    for deadline in [running for running in _running if running.ends < now]:
        if deadline in _running and deadline.ends < now:
            deadline.strike()
