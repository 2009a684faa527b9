"""Refuses requests while too many wait for what they need, at a fraction of what answering costs.

All need the database; some need more, such as a place in the queue for hashing passwords.

At ten times what a worker can do, even parsing what is refused would leave no time for the rest:
gunicorn's parser, the edge and an access line are half of the cost of a small request. So a whole
and simple request is refused as it comes from the socket; what is anything else takes the ordinary
way, and the edge refuses it. Probes always pass.
"""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import gevent

from app.platform import db, errors, logging, metrics
from app.platform.security_headers import security_headers
from app.platform.settings import Settings

# A client that gets its refusal at once sends the next request at once. So long it is kept waiting;
# often the crowd is over by then, and it gets its answer.
PAUSE_SECONDS = 0.1
REPORT_SECONDS = 1.0

_PROBES = (b"GET /health", b"GET /ready", b"GET /metrics")
_METHODS = (b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")
# What asks for more than a plain answer, and what the answer would have to heed. All begin alike,
# which lets the search jump from line to line: 0.4 µs instead of 8.
_UNUSUAL = re.compile(rb"\n(?:expect|upgrade|origin|x-request-id|accept:[^\n]*problem)")
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d{1,7})(?:\r\n|$)")
_NO_ID = "0" * 32
_refusals = metrics.counter(
    "overload_refusals_total",
    "Requests that were refused unread, because too many waited for what they need.",
)
log = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The bytes of an answer, and whether the connection ends with it."""

    answer: bytes
    closes: bool


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
        name = secrets.token_hex(16).encode()
        return b"".join((self._before, name, self._between, name, self._after))


_keeping: _Form
_closing: _Form
# How a request begins that needs more than the database, and what tells whether there is no room.
_needs: dict[bytes, Callable[[], bool]] = {}
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


def refusal(data: bytes) -> Refusal | None:
    """Return how to refuse what came from a socket, or None when it is to be read and answered.

    Waits for PAUSE_SECONDS before a refusal, and looks again.
    """
    global _refused
    if not _has_no_room(data):
        return None
    is_simple, closes = _look_at(data)
    if not is_simple:
        return None
    gevent.sleep(PAUSE_SECONDS)
    if not _has_no_room(data):
        return None
    _refused += 1
    return Refusal((_closing if closes else _keeping).fill(), closes)


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
    if not ended or head.startswith(_PROBES) or not head.startswith(_METHODS):
        return False, False
    if not head[: head.find(b"\r\n")].endswith(b" HTTP/1.1"):
        return False, False
    head = head.lower()
    if b"transfer-encoding" in head or _UNUSUAL.search(head):
        return False, False
    lengths = head.count(b"content-length")
    declared = _LENGTH.search(head) if lengths == 1 else None
    if lengths and (declared is None or int(declared[1]) != len(body)):
        return False, False
    if body and not lengths:
        return False, False
    return True, b"\r\nconnection: close" in head
