"""Refuses requests while too many wait for what they need, at a fraction of what answering costs.

All need the database; some need more, such as a place in the queue for hashing passwords.

At ten times what a worker can do, even parsing what is refused would leave no time for the rest:
gunicorn's parser, the edge and an access line are half of the cost of a small request. So a whole
and simple request is refused as it comes from the socket, in the event loop; what is anything else
takes the ordinary way, and the edge refuses it. Probes always pass.
"""

import random
import re
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent

from app.platform import db, errors, logging, metrics
from app.platform.security_headers import security_headers
from app.platform.settings import Settings

# A client that gets its refusal at once sends the next request at once. So long it is kept waiting;
# often the crowd is over by then, and it gets its answer.
PAUSE_SECONDS = 0.1
REPORT_SECONDS = 1.0

# How often it is looked whose pause is over. Many at once cost less each than one at a time.
TICK_SECONDS = 0.01

_FIRST_LINE = re.compile(
    rb"(?:GET (?!/health|/ready|/metrics)|POST |PUT |PATCH |DELETE )[^ \r\n]+ HTTP/1\.1\r\n"
)
# Of a head in lower case: what asks for more than a plain answer, what the answer would have to
# heed, and lines that another parser could understand in another way. A search for the end of a
# line jumps from one to the next.
_UNUSUAL = re.compile(
    rb"\n(?:expect|upgrade|origin|x-request-id|accept:[^\n]*problem|transfer-encoding"
    rb"|(?![a-z][a-z0-9_-]*+:)|(?<!\r\n))"
)
_BARE_RETURN = re.compile(rb"\r(?!\n)")
_LENGTH_OR_CLOSE = re.compile(rb"\n(?:content-length([^\r]*)|connection: ?(close))")
_LENGTH = re.compile(rb": ?(\d{1,7})")
_NO_ID = "0" * 32
_refusals = metrics.counter(
    "overload_refusals_total",
    "Requests that were refused unread, because too many waited for what they need.",
)
log = logging.get_logger(__name__)


class Visitor(Protocol):
    """A connection on which a request has come."""

    def admit(self, data: bytes) -> None:
        """Have what came read and answered."""

    def refuse(self, answer: bytes, *, closes: bool) -> bool:
        """Send this answer instead, and end the connection if it `closes`; tell whether it went."""


class _Form:
    """An answer with a gap for the request's id, in its head and in its body."""

    def __init__(self, connection: str, headers: list[tuple[str, str]]) -> None:
        status, body, content_type = errors.render(
            errors.Overloaded(), request_id=_NO_ID, problem=False
        )
        head = [
            ("Connection", connection),
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *errors.Overloaded.headers.items(),
            *headers,
            ("X-Request-Id", _NO_ID),
        ]
        lines = "".join(f"{name}: {value}\r\n" for name, value in head)
        whole = f"HTTP/1.1 {status} Service Unavailable\r\n{lines}\r\n".encode() + body
        self._before, self._between, self._after = whole.split(_NO_ID.encode())

    def fill(self) -> bytes:
        """Return the answer with a new id."""
        name = b"%032x" % random.getrandbits(128)
        return b"".join((self._before, name, self._between, name, self._after))


_keeping: _Form
_closing: _Form
# How a request begins that needs more than the database, and what tells whether there is no room.
_needs: dict[bytes, Callable[[], bool]] = {}
# Whose pause ends when, with what came and whether its answer ends the connection; in that order.
_kept_waiting: deque[tuple[float, Visitor, bytes, bool]] = deque()
_timer: Any = None
_refused = _unreported = 0
_reported_at = 0.0


def configure(settings: Settings) -> None:
    """Write the answers, with the headers that every answer has."""
    global _keeping, _closing
    headers = security_headers(settings)
    _keeping, _closing = _Form("keep-alive", headers), _Form("close", headers)


def also_refuse(method_and_path: str, is_full: Callable[[], bool]) -> None:
    """Refuse requests of this method and path, such as `POST /x`, also while `is_full()`."""
    _needs[f"{method_and_path} ".encode()] = is_full


def keep_waiting(visitor: Visitor, data: bytes) -> bool:
    """Tell whether what came from a socket isn't to be read just now.

    Then the visitor hears after PAUSE_SECONDS whether it is admitted or refused.
    """
    global _timer
    if not _has_no_room(data):
        return False
    is_simple, closes = _look_at(data)
    if not is_simple:
        return False
    if not _kept_waiting:
        if _timer is None:
            _timer = gevent.get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
        _timer.start(_decide)
    _kept_waiting.append((monotonic() + PAUSE_SECONDS, visitor, data, closes))
    return True


def _decide() -> None:
    """Refuse those whose pause is over, or admit them. This runs in the event loop."""
    global _refused
    now = monotonic()
    while _kept_waiting and _kept_waiting[0][0] <= now:
        _, visitor, data, closes = _kept_waiting.popleft()
        try:
            if _has_no_room(data):
                answer = (_closing if closes else _keeping).fill()
                _refused += visitor.refuse(answer, closes=closes)
            else:
                visitor.admit(data)
        except BaseException:
            # Nobody else would ever end it.
            visitor.admit(b"")
            raise
    if not _kept_waiting:
        _timer.stop()


def _has_no_room(data: bytes) -> bool:
    if db.pool_is_crowded():
        return True
    for beginning, is_full in _needs.items():
        if data.startswith(beginning):
            return is_full()
    return False


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


def _look_at(data: bytes) -> tuple[bool, bool]:
    """Tell whether the bytes are one whole request without anything unusual, and its last one.

    Strict, because whoever took the end of a request for another place would answer what somebody
    wrote into its body.
    """
    head, ended, body = data.partition(b"\r\n\r\n")
    if not ended or _FIRST_LINE.match(head) is None:
        return False, False
    head = head.lower()
    if _UNUSUAL.search(head) or _BARE_RETURN.search(head):
        return False, False
    found = _LENGTH_OR_CLOSE.findall(head)
    closes = (b"", b"close") in found
    lengths = [length for length, close in found if not close]
    if not lengths:
        return (True, closes) if not body else (False, False)
    declared = _LENGTH.fullmatch(lengths[0])
    if len(lengths) > 1 or declared is None or int(declared[1]) != len(body):
        return False, False
    return True, closes
