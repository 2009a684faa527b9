"""Knows to which trace belongs what runs, and makes spans of it where APP_OTLP_ENDPOINT is set.

A *trace* is everything that one request sets off, before this service, in it and after it; a *span*
is a part of it with a beginning and an end (W3C Trace Context, OpenTelemetry). Who calls may send
the place in a trace that the call comes from. Whether anybody collects spans here or not, its id
stands in each log line, and the place goes with each event to the job that comes of it, and on to
whomever that calls. Of OpenTelemetry nothing is imported before an address to send spans to is set.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

from structlog.contextvars import bind_contextvars, unbind_contextvars

from app.platform import statements
from app.platform.metrics import METHODS
from app.platform.settings import Settings

Given = ParamSpec("Given")
Result = TypeVar("Result")
Facts = Mapping[str, str | int | None]
# Two hex digits of a version, of which ff is none; ids that aren't all zeros; flags. A later
# version may have more behind them (W3C Trace Context, 3.2.2 and 4.3).
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})"
    r"-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-[ -~]*)?"
)
_SAMPLED = 1
_FINELY = 1 << 30


class Place(NamedTuple):
    """A span of a trace, as the parent of what comes of it; `sampled` asks to collect that too."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02}"


class Scope(Protocol):
    """A request or a job that belongs to a trace, from its beginning until `end`."""

    def end(self, name: str, *, failed: bool, facts: Facts) -> None:
        """Leave the trace; must be called in the greenlet or task in which it began."""


class Recorder(Protocol):
    """Makes spans, and sends them away; there is one in a process that has an address for it."""

    def begin(self, parent: Place | None, *, job: bool) -> Scope:
        """Enter the parent's trace, which is sampled, or a new one."""

    def step(self, name: str) -> AbstractContextManager[object]:
        """Give a span of what is done inside, if that belongs to a trace."""

    def here(self) -> Place | None:
        """Return the place of what runs now, or None outside of a trace."""

    def stop(self, seconds: float) -> None:
        """Send what is left, within so many seconds."""


_recorder: Recorder | None = None
_share = 1.0
# Where the request or job that runs came from, while no spans are made of it.
_caller: ContextVar[Place | None] = ContextVar("caller", default=None)


def start(settings: Settings) -> None:
    """Begin to make spans, if there is an address for them; once, after the fork.

    It starts a thread, or under gevent a greenlet, which sends them.
    """
    global _recorder, _share
    if settings.otlp_endpoint is None or _recorder is not None:
        return
    # It and what it imports cost memory and start-up time that most installs don't need.
    from app.platform.spans import OpenTelemetry

    recorder = OpenTelemetry(settings)
    statements.run_by(recorder.run_statement)
    _recorder, _share = recorder, settings.otlp_sample_ratio


def stop(seconds: float) -> None:
    """Send what is left, at most this long; afterwards no spans are made."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        statements.run_by(None)
        recorder.stop(seconds)


def begin(sent: str | None, *, job: bool = False) -> Scope | None:
    """Enter the trace that a caller has sent, or a new one where spans are made; or None.

    What isn't a traceparent counts as not sent. Whoever begins a trace decides for all parts of it
    whether it is collected; what isn't makes no spans here.
    """
    parent, recorder = place(sent), _recorder
    if recorder is not None:
        if parent is None and secrets.randbelow(_FINELY) >= _share * _FINELY:
            parent = Place(secrets.token_hex(16), secrets.token_hex(8), sampled=False)
        if parent is None or parent.sampled:
            return recorder.begin(parent, job=job)
    return None if parent is None else _PassedOn(parent)


@contextmanager
def job(name: str, *, sent: str | None, facts: dict[str, str | int | None]) -> Iterator[None]:
    """Let what is done inside belong to a trace, as `begin` says, and be a span of it.

    Facts that are added inside are told as well; a job has failed when an exception leaves it.
    """
    scope = begin(sent, job=True)
    if scope is None:
        yield
        return
    failed = True
    try:
        yield
        failed = False
    finally:
        scope.end(f"job {name}", failed=failed, facts=facts)


def begin_request(environ: Mapping[str, Any], *, ignored: frozenset[str]) -> Scope | None:
    """Enter the trace that a request belongs to, unless its path is among those to be ignored."""
    sent = environ.get("HTTP_TRACEPARENT")
    if (_recorder is None and sent is None) or environ["PATH_INFO"] in ignored:
        return None
    return begin(sent)


def end_request(scope: Scope | None, environ: Mapping[str, Any], *, status: int) -> None:
    """Leave the trace of a request; its span is named by the route, because paths hold ids."""
    if scope is None:
        return
    method, route = environ["REQUEST_METHOD"], environ.get("bursar.route")
    user_id = environ.get("bursar.user_id")
    # A client may send any word as its method.
    method = method if method in METHODS else "OTHER"
    facts: Facts = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "enduser.id": None if user_id is None else str(user_id),
        "bursar.request_id": environ["bursar.request_id"],
    }
    scope.end(f"{method} {route}" if route else method, failed=status >= 500, facts=facts)


def traceparent() -> str | None:
    """Return where the calling code is, for those who go on from here, or None outside of a trace.

    It is what a header of this name holds.
    """
    here = _caller.get()
    if here is None and _recorder is not None:
        here = _recorder.here()
    return None if here is None else str(here)


def step(name: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Make each call of a function a span of this name, where spans are made."""

    def mark(work: Callable[Given, Result]) -> Callable[Given, Result]:
        @wraps(work)
        def followed(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            recorder = _recorder
            if recorder is None:
                return work(*args, **kwargs)
            with recorder.step(name):
                return work(*args, **kwargs)

        return followed

    return mark


def place(sent: str | None) -> Place | None:
    """Return what a traceparent says, or None when it isn't one."""
    found = _TRACEPARENT.fullmatch(sent) if sent is not None else None
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return Place(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))


def mark_lines(trace_id: str) -> None:
    """Let log lines name the trace, until `unmark_lines`."""
    bind_contextvars(trace_id=trace_id)


def unmark_lines() -> None:
    """Let log lines name no trace."""
    unbind_contextvars("trace_id")


class _PassedOn:
    """What belongs to a trace and isn't collected: by nobody, or not here."""

    def __init__(self, parent: Place) -> None:
        _caller.set(parent)
        mark_lines(parent.trace_id)

    def end(self, name: str, **_: Any) -> None:
        _caller.set(None)
        unmark_lines()
