"""Writes every log line: ours through structlog, everybody else's through the same renderer.

A line is one JSON object (or one readable line in development) on standard error; standard output
belongs to what a command answers. What a line must never hold: headers, query values, addresses,
and the words of errors that aren't ours, which may quote a row or a parameter.
"""

import json
import logging as stdlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import orjson
import structlog
from structlog.contextvars import merge_contextvars
from structlog.typing import Processor

from app.platform import clock, sentry
from app.platform.errors import AppError
from app.platform.settings import PROJECT_ROOT, Settings

SERVICE = "bursar"
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
# Only on request they say more. At DEBUG gunicorn writes every path, and paths hold ids.
# The worker's library tells each step, and its driver each try to reach a database that is away; of
# both the worker itself writes what is worth a line.
_QUIET = {
    "gunicorn": _LEVELS["info"],
    "procrastinate": _LEVELS["warning"],
    "psycopg": _LEVELS["error"],
}
_FRAMES = 25
_JSON = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
Event = MutableMapping[str, Any]
Line = dict[str, Any]
Render = Callable[[Line], bytes]
# One list for life, of which only the content changes: a logger keeps the list that it saw first.
_processors: list[Processor] = []


def get_logger(name: str) -> Any:
    """Return the logger of a module; it may be made before `configure` has run."""
    return structlog.get_logger(name)


def configure(settings: Settings) -> None:
    """Send all loggers, ours and the standard library's, to standard error in one format.

    May be called again, for instance by each application that a test makes.
    """
    render = _json_renderer(settings) if settings.log_format == "json" else _pretty

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
        line = {"timestamp": clock.now(), "level": "critical", "event": event, "problems": problems}
        _write(orjson.dumps(line | {"service": SERVICE}, option=_JSON))
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


def describe(error: BaseException) -> str:
    """Return an error's type, and what can be told of it without quoting anybody's data."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _qualified(kind)
    if isinstance(error, AppError):
        return f"{name}: {error.code}"
    told = [
        # Each driver of PostgreSQL has its own name for it.
        getattr(error, "pgcode", None) or getattr(error, "sqlstate", None),
        getattr(getattr(error, "diag", None), "constraint_name", None),
        error.strerror if isinstance(error, OSError) else None,
    ]
    facts = ", ".join(str(fact) for fact in told if fact)
    return f"{name} ({facts})" if facts else name


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
    text = record.getMessage()
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


def _json_renderer(settings: Settings) -> Render:
    stamp = {"service": SERVICE, "version": settings.version}

    def render(line: Line) -> bytes:
        error = line.pop("exc_info", None)
        if error is not None:
            line |= _explained(error)
        line |= stamp
        try:
            return orjson.dumps(line, default=str, option=_JSON)
        except TypeError:
            # orjson refuses lone surrogates and very large integers; a log line must not fail.
            return json.dumps(line, default=str).encode() + b"\n"

    return render


def _explained(error: BaseException) -> dict[str, Any]:
    """Return an error as fields: what it is, what caused it, and where, without anyone's data."""
    chain = list(_chain(error))
    return {
        "error": describe(error),
        "causes": [describe(cause) for cause in chain[1:]],
        "trace": " caused by ".join(_where(link) for link in chain),
    }


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _where(error: BaseException) -> str:
    """Return where an error came from, innermost frame first."""
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), lookup_lines=False
    )
    places = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    return f"{type(error).__qualname__} at {' < '.join(reversed(places[-_FRAMES:]))}"


def _short(filename: str) -> str:
    """Return a file's path within the project or within its package folder."""
    _, found, inside = filename.rpartition("/site-packages/")
    if found:
        return inside
    path = Path(filename)
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else filename


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _pretty(line: Line) -> bytes:
    """Return a line for a developer's eyes: time, level, event, what is known, and a traceback."""
    error = line.pop("exc_info", None)
    moment = line.pop("timestamp").astimezone()
    level, event, name = line.pop("level"), line.pop("event"), line.pop("logger")
    told = {key: value for key, value in line.items() if value is not None}
    fields = " ".join(f"{key}={_plain(value)}" for key, value in told.items())
    text = f"{moment:%H:%M:%S} {level:<8} {name}: {_plain(event)}  {fields}".rstrip()
    if error is not None:
        text += "\n" + _traceback(error)
    return text.encode(errors="backslashreplace") + b"\n"


def _traceback(error: BaseException) -> str:
    """Return a traceback with the lines of this project; the others' would bury them."""
    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    while link is not None:
        ours = [frame for frame in link.stack if not Path(_short(frame.filename)).is_absolute()]
        link.stack = traceback.StackSummary.from_list(
            [frame for frame in ours if "/site-packages/" not in frame.filename]
        )
        link = link.__cause__ or link.__context__
    return "".join(whole.format()).rstrip()


def _plain(value: Any) -> str:
    """Return a value as text that stays on its line and in its terminal."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def _uncaught(where: str, error: BaseException | None) -> None:
    """Report an exception that nobody caught; an interrupt or an exit is no fault."""
    if error is None or isinstance(error, KeyboardInterrupt | SystemExit):
        return
    get_logger(__name__).error("uncaught_exception", where=where, exc_info=error)
    sentry.capture(error, request_id=None)


def _write(line: bytes) -> None:
    """Write one whole line at once, so that lines of several workers never mix."""
    try:
        stream = sys.stderr.buffer
        stream.write(line)
        stream.flush()
    except (AttributeError, OSError, ValueError):
        # Standard error is closed or replaced. A request must not fail for its log line.
        return
