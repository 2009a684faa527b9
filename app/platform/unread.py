"""Answers requests that nobody has read: which of them may be, and with what.

At ten times what a worker can do, even parsing what is refused would leave no time for the rest:
gunicorn's parser, the edge and an access line are half of the cost of a small request.
"""

import random
import re
from functools import lru_cache
from typing import NamedTuple

from app.platform import cors, errors, ids
from app.platform.security_headers import security_headers
from app.platform.settings import Settings

_FIRST_LINE = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE) /[\x21-\x7e]* HTTP/1\.1\r\n")
# Of a head in lower case: what asks for more than a plain answer, and lines that another parser
# could understand in another way. A search for the end of a line jumps from one to the next.
_UNUSUAL = re.compile(
    rb"\n(?:expect:|upgrade:|accept:[^\n]*problem|transfer-encoding:"
    rb"|(?![a-z][a-z0-9_-]*+:)|(?<!\r\n))"
)
_CONTROL = re.compile(rb"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HEEDED = re.compile(rb"\n(connection|content-length|host|origin|x-request-id):[ \t]*+([^\r]*)")
_LENGTH, _SENT_ID = re.compile(rb"\d{1,7}"), re.compile(ids.REQUEST_ID.encode())
_NO_ID = "0" * 32
_HEAD_END = b"\r\n\r\n"
# In a crowd the same clients ask the same again and again. Requests are remembered while it lasts,
# so many at most and none that is longer; one with a body, which may hold a password, never is.
_REMEMBERED, _REMEMBERED_BYTES = 512, 2048


class Request(NamedTuple):
    """One whole request without anything unusual: what its refusal has to heed."""

    closes: bool = False
    origin: str | None = None
    request_id: bytes | None = None


class _Form:
    """An answer with gaps for its length and the request's id."""

    def __init__(self, connection: str, headers: list[tuple[str, str]]) -> None:
        status, body, content_type = errors.render(
            errors.Overloaded(), request_id=_NO_ID, problem=False
        )
        head = [
            ("Connection", connection),
            ("Content-Type", content_type),
            ("Cache-Control", "no-store"),
            *errors.Overloaded.headers.items(),
            *headers,
        ]
        lines = "".join(f"{name}: {value}\r\n" for name, value in head)
        whole = f"HTTP/1.1 {status} Service Unavailable\r\n{lines}".encode().replace(b"%", b"%%")
        gaps = body.replace(b"%", b"%%").replace(_NO_ID.encode(), b"%b")
        self._form = whole + b"Content-Length: %d\r\nX-Request-Id: %b\r\n\r\n" + gaps
        self._length = len(body) - len(_NO_ID)

    def fill(self, request_id: bytes | None) -> bytes:
        """Return the answer with this id, or with a new one."""
        name = request_id or b"%032x" % random.getrandbits(128)
        return self._form % (self._length + len(name), name, name)


_forms: dict[tuple[bool, str | None], _Form] = {}


def configure(settings: Settings) -> None:
    """Write the answers, with the headers that every answer has."""
    _forms.clear()
    for page in (None, *settings.cors_origins):
        headers = security_headers(settings) + cors.for_refusal(page, settings.cors_origins)
        _forms[False, page] = _Form("keep-alive", headers)
        _forms[True, page] = _Form("close", headers)


def refusal(request: Request, *, closes: bool) -> bytes:
    """Return a 503, which says whether it `closes` the connection."""
    form = _forms.get((closes, request.origin)) or _forms[closes, None]
    return form.fill(request.request_id)


def look_at(data: bytes) -> Request | None:
    """Return what the bytes ask for, if they are one whole request without anything unusual.

    Strict, because whoever took the end of a request for another place would answer what somebody
    wrote into its body.
    """
    if len(data) > _REMEMBERED_BYTES or data.find(_HEAD_END) != len(data) - len(_HEAD_END):
        return _look_at(data)
    return _remembered(data)


def forget() -> None:
    """Forget the requests that were looked at; for the end of a crowd."""
    _remembered.cache_clear()


def _look_at(data: bytes) -> Request | None:
    head, ended, body = data.partition(_HEAD_END)
    if not ended or _FIRST_LINE.match(head) is None:
        return None
    lower = head.lower()
    if _UNUSUAL.search(lower) or _CONTROL.search(lower):
        return None
    heeded: dict[bytes, bytes] = {}
    for found in _HEEDED.finditer(lower):
        if found[1] in heeded:
            return None
        # As it was written: only the names are in lower case.
        heeded[found[1]] = head[found.start(2) : found.end(2)].rstrip(b" \t")
    length = heeded.get(b"content-length", b"0")
    if _LENGTH.fullmatch(length) is None or int(length) != len(body):
        return None
    sent, page = heeded.get(b"x-request-id"), heeded.get(b"origin")
    return Request(
        closes=heeded.get(b"connection", b"").lower() == b"close",
        origin=page.decode("latin-1") if page is not None else None,
        request_id=sent if sent is not None and _SENT_ID.fullmatch(sent) else None,
    )


_remembered = lru_cache(_REMEMBERED)(_look_at)
