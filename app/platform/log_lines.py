r"""What a log line looks like: a JSON object, or in development what people read.

Whatever stands in a field stays on its line and in its place: line breaks, escape sequences and
characters that change the direction of writing are spelled out, in JSON as `\uXXXX`. No line is
longer than LINE_BYTES, whatever a client has sent.
"""

import re
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from app.platform.errors import AppError
from app.platform.settings import PROJECT_ROOT

SERVICE = "bursar"
Line = dict[str, Any]
Render = Callable[[Line], bytes]
# Some collectors cut at 16 KiB, and the halves are no JSON any more.
LINE_BYTES = 16_384
# A field of a line that would be too long: each is tried, and the last one always does, for a
# character takes 12 bytes at most (two escapes) and no line of ours has 40 fields.
_FIELD_LENGTHS = (1_000, 200, 20)
_FRAMES = 25
_JSON = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
# JSON escapes what is below the space. DEL, the controls of ISO 8859-1, U+2028 and its like, which
# end a line for some readers, and the signs that turn the direction of writing are left.
_FOREIGN = re.compile(rb"[\x7f-\xff]")
_NOT_ASCII = re.compile("[\x7f-\U0010ffff]")


def json_renderer(version: str) -> Render:
    """Return what makes one JSON object of a line, stamped with service and version."""
    stamp = {"service": SERVICE, "version": version}

    def render(line: Line) -> bytes:
        error = line.pop("exc_info", None)
        if error is not None:
            line |= _explained(error)
        return as_json(line | stamp)

    return render


def as_json(line: Line) -> bytes:
    """Return a line as JSON in ASCII, at most LINE_BYTES long, whatever its fields are."""
    try:
        text = orjson.dumps(line, default=str, option=_JSON)
        # Escapes make it longer, and what is too long already isn't worth them.
        if len(text) <= LINE_BYTES and len(text := _escaped(text)) <= LINE_BYTES:
            return text
    except (TypeError, ValueError):
        # orjson refuses lone surrogates and very large integers; a log line must not fail.
        pass
    for length in _FIELD_LENGTHS:
        plain = {str(name): _shortened(value, length) for name, value in line.items()}
        text = _escaped(orjson.dumps(plain, option=_JSON))
        if len(text) <= LINE_BYTES:
            break
    return text


def pretty(line: Line) -> bytes:
    """Return a line for a developer's eyes: time, level, event, what is known, and a traceback."""
    error = line.pop("exc_info", None)
    moment = line.pop("timestamp").astimezone()
    level, event, name = line.pop("level"), line.pop("event"), line.pop("logger")
    told = {key: value for key, value in line.items() if value is not None}
    fields = " ".join(f"{key}={_plain(value)}" for key, value in told.items())
    text = f"{moment:%H:%M:%S} {level:<8} {name}: {_plain(event)}  {fields}".rstrip()
    if error is not None:
        text += "".join(f"\n  {_plain(each)}" for each in _traceback(error).split("\n"))
    return text.encode(errors="backslashreplace")[: LINE_BYTES - 1] + b"\n"


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


def _escaped(text: bytes) -> bytes:
    r"""Return JSON with everything beyond printable ASCII as `\uXXXX`."""
    if _FOREIGN.search(text) is None:
        return text
    return _NOT_ASCII.sub(_escape, text.decode()).encode()


def _escape(found: re.Match[str]) -> str:
    pairs = found[0].encode("utf-16-be").hex()
    return "".join(f"\\u{pairs[at : at + 4]}" for at in range(0, len(pairs), 4))


def _shortened(value: Any, length: int) -> Any:
    """Return a value as one that every JSON holds, of at most so many characters and an ellipsis.

    Lone surrogates are spelled out.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and isfinite(value) and abs(value) < 1 << 53:
        return value
    text = _words(value)
    text = text if len(text) <= length else text[:length] + "…"
    return text.encode(errors="backslashreplace").decode()


def _words(value: Any) -> str:
    if isinstance(value, datetime):
        return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode().strip('"')
    try:
        return str(value)
    except Exception:
        return f"<{_qualified(type(value))}>"


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
    """Return a value as text that stays on its line and in its terminal, cut when it is long."""
    text = _words(value)
    text = text if len(text) <= _FIELD_LENGTHS[0] else text[: _FIELD_LENGTHS[0]] + "…"
    return text if text.isprintable() else repr(text)
