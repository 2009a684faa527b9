"""Answers requests that nobody has read: which of them may be, and with what.

At ten times what a worker can do, even parsing what is refused would leave no time for the rest:
gunicorn's parser, the edge and an access line are half of the cost of a small request.
"""

import random
import re

from app.platform import errors
from app.platform.security_headers import security_headers
from app.platform.settings import Settings

_FIRST_LINE = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE) [^ \r\n]+ HTTP/1\.1\r\n")
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


def configure(settings: Settings) -> None:
    """Write the answers, with the headers that every answer has."""
    global _keeping, _closing
    headers = security_headers(settings)
    _keeping, _closing = _Form("keep-alive", headers), _Form("close", headers)


def refusal(*, closes: bool) -> bytes:
    """Return a 503, which says whether it `closes` the connection."""
    return (_closing if closes else _keeping).fill()


def look_at(data: bytes) -> tuple[bool, bool]:
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
