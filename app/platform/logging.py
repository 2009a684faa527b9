"""Writes every log line: ours through structlog, everybody else's through the same renderer.

A server's lines go to standard output; a command's go to standard error, because standard output
belongs to what it answers. How a line looks is up to `log_lines`. What it must never hold: headers,
query values, addresses, and the words of errors that aren't ours, which may quote a row or a
parameter.
"""

import logging as stdlib
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import Processor

from app.platform import clock, log_lines, sentry
from app.platform.log_lines import Line, Render
from app.platform.settings import VERSION, Settings

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
# Only on request they say more. At DEBUG gunicorn writes every path, and paths hold ids.
# The worker's library tells each step, and its driver each try to reach a database that is away; of
# both the worker itself writes what is worth a line.
_QUIET = {
    "gunicorn": _LEVELS["info"],
    "procrastinate": _LEVELS["warning"],
    "psycopg": _LEVELS["error"],
    # What becomes of the traces is told by `spans`, once and not at each try.
    "opentelemetry": _LEVELS["critical"],
    "urllib3": _LEVELS["critical"],
}
Event = MutableMapping[str, Any]
# One list for life, of which only the content changes: a logger keeps the list that it saw first.
_processors: list[Processor] = []
_serves = False


def get_logger(name: str) -> Any:
    """Return the logger of a module; it may be made before `configure` has run."""
    return structlog.get_logger(name)


def serve() -> None:
    """Write to standard output from now on: this process is a server, and not a command.

    What ends it unforeseen is a line too, already while it starts.
    """
    global _serves
    _serves = True
    sys.excepthook = lambda kind, error, trace: _uncaught("program", error)


def configure(settings: Settings) -> None:
    """Send all loggers, ours and the standard library's, to one place in one format.

    May be called again, for instance by each application that a test makes.
    """
    as_json = settings.log_format == "json"
    render = log_lines.json_renderer(settings.version) if as_json else log_lines.pretty

    def finish(logger: Any, method: str, event: Event) -> bytes:
        return render(_ordered(event, name=logger.name, level=method))

    _processors[:] = [_wanted, merge_contextvars, finish]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=_Sink,
        cache_logger_on_first_use=True,
    )
    root = stdlib.getLogger()
    root.handlers = [known for known in root.handlers if not isinstance(known, _Handler)]
    root.addHandler(_Handler(render))
    root.setLevel(_LEVELS[settings.log_level])
    levels = {name: max(least, _LEVELS[settings.log_level]) for name, least in _QUIET.items()}
    levels |= {name: _LEVELS[level] for name, level in settings.log_levels}
    for name, least in levels.items():
        stdlib.getLogger(name).setLevel(least)


def complain(event: str, problems: list[str], *, as_json: bool) -> None:
    """Say why the process can't start, before there are settings that say how to log."""
    if as_json:
        line: Event = {"event": event, "problems": problems}
        _write(log_lines.json_renderer(VERSION)(_ordered(line, name=__name__, level="critical")))
    else:
        _write("\n".join(["The settings can't be used:", *problems, ""]).encode())


def report_uncaught() -> None:
    """Make one ERROR line of each exception that nobody caught, outside requests as well.

    Covers the main program, threads, greenlets of the current hub, and warnings.
    """
    from gevent import get_hub

    sys.excepthook = lambda kind, error, trace: _uncaught("program", error)
    threading.excepthook = lambda args: _uncaught("thread", args.exc_value)
    # The hub looks this method up on itself each time; there is no other hook for greenlets.
    vars(get_hub())["print_exception"] = lambda context, kind, error, trace: _uncaught(
        "greenlet", error
    )
    stdlib.captureWarnings(True)


class _Sink:
    """What structlog writes to: a name, and one method per level."""

    def __init__(self, name: str) -> None:
        self.name = name
        # The standard library decides about levels, ours included: one table for all modules.
        self.levels = stdlib.getLogger(name)

    def debug(self, line: bytes) -> None:
        _write(line)

    info = warning = error = critical = debug


class _Handler(stdlib.Handler):
    """Renders the records of everybody who uses the standard library's logging."""

    def __init__(self, render: Render) -> None:
        super().__init__()
        self._render = render

    def emit(self, record: stdlib.LogRecord) -> None:
        text = _without_client_data(record)
        event: Event = {"event": text, "exc_info": record.exc_info}
        level = record.levelname.lower()
        event = merge_contextvars(None, level, event)
        _write(self._render(_ordered(event, name=record.name, level=level)))


def _without_client_data(record: stdlib.LogRecord) -> str:
    """Return a record's text; gunicorn's may quote addresses, header values and query strings."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Somebody's arguments don't fit their text. That must not become their caller's error.
        text = str(record.msg)
    if record.name == "gunicorn.error":
        for harmless in ("Invalid request", "Error handling request"):
            if text.startswith(harmless):
                return harmless
    return text


def _wanted(logger: Any, method: str, event: Event) -> Event:
    if not logger.levels.isEnabledFor(_LEVELS[method]):
        raise structlog.DropEvent
    return event


def _ordered(event: Event, *, name: str, level: str) -> Line:
    """Return the event with its fixed fields in front and the exception resolved."""
    given = event.pop("exc_info", None)
    error = given
    if given is True:
        error = sys.exc_info()[1]
    elif isinstance(given, tuple):
        error = given[1]
    line: Line = {
        "timestamp": clock.now(),
        "level": level,
        "event": event.pop("event"),
        "logger": name,
        **event,
    }
    if isinstance(error, BaseException):
        line["exc_info"] = error
    return line


def _uncaught(where: str, error: BaseException | None) -> None:
    """Report an exception that nobody caught; an interrupt or an exit is no fault."""
    if error is None or isinstance(error, KeyboardInterrupt | SystemExit):
        return
    get_logger(__name__).error("uncaught_exception", where=where, exc_info=error)
    sentry.capture(error, request_id=None)


def _write(line: bytes) -> None:
    """Write one whole line at once, so that lines of several workers never mix."""
    try:
        stream = (sys.stdout if _serves else sys.stderr).buffer
        stream.write(line)
        stream.flush()
    except (AttributeError, OSError, ValueError):
        # The stream is closed or replaced. A request must not fail for its log line.
        return
