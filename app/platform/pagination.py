"""Lists: newest first, by keyset, with an opaque signed cursor.

A cursor is the sort key of the last row, signed together with the route, the filters and the user,
so that it can't be edited, moved to another list or lent to another user. `page` walks by offset
and is only taken down to row 10,000, because an offset reads everything before it.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from marshmallow import Schema, fields, validate

from app.platform.actor import Actor
from app.platform.errors import Invalid

MAX_PER_PAGE = 100
MAX_OFFSET_ROW = 10_000
_MAC_BYTES = 16
_signing_keys: Sequence[bytes] = ()


class Count(fields.Integer):
    """A number in a query: digits and nothing else (Python also reads `1_0`, ` 5 ` and `٣`)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not re.fullmatch(r"[0-9]{1,10}", str(value), re.ASCII):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **kwargs)


class PageQuery(Schema):
    """Query parameters of every list; lists with filters add theirs."""

    per_page = Count(
        load_default=20,
        validate=validate.Range(min=1),
        metadata={"description": f"Above {MAX_PER_PAGE} counts as {MAX_PER_PAGE}."},
    )
    cursor = fields.String(validate=validate.Length(1, 1000))
    page = Count(validate=validate.Range(min=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which rows to fetch; `limit` is one more than is shown, to know if there is a next page."""

    per_page: int
    after: tuple[Any, ...] | None
    offset: int
    scope: bytes

    @property
    def limit(self) -> int:
        """Return how many rows the query should ask for."""
        return self.per_page + 1


def use_keys(keys: Sequence[bytes]) -> None:
    """Sign cursors with the first key from now on, and verify with all of them."""
    global _signing_keys
    _signing_keys = keys


def page(arguments: Mapping[str, Any], *, route: str, actor: Actor) -> Page:
    """Return which rows a list request asks for.

    `arguments` are those of a `PageQuery`; everything else in them counts as a filter. `after` is
    the sort key of the last row seen: datetimes, UUIDs, integers and strings come back as such.

    Raises Invalid when the cursor isn't one of ours for this list, or `page` goes too deep.
    """
    per_page = min(arguments["per_page"], MAX_PER_PAGE)
    cursor, number = arguments.get("cursor"), arguments.get("page")
    if cursor is not None and number is not None:
        raise Invalid(details={"page": ["Send either page or cursor."]})
    offset = ((number or 1) - 1) * per_page
    if offset >= MAX_OFFSET_ROW:
        raise Invalid(details={"page": [f"Ends at row {MAX_OFFSET_ROW}; use the cursor."]})
    per_page = min(per_page, MAX_OFFSET_ROW - offset)
    filters = {
        name: str(value)
        for name, value in arguments.items()
        if name not in ("per_page", "cursor", "page")
    }
    scope = orjson.dumps([route, str(actor.user_id), filters], option=orjson.OPT_SORT_KEYS)
    after = None if cursor is None else _read(cursor, scope)
    return Page(per_page=per_page, after=after, offset=offset, scope=scope)


def listing(
    page: Page,
    rows: Iterable[Any],
    *,
    wire: Callable[[Any], dict[str, Any]],
    key: Callable[[Any], tuple[Any, ...]],
) -> dict[str, Any]:
    """Return the wire form of a list: `{"items": [...], "next_cursor": "..." | None}`.

    `rows` are those fetched with `page.limit`; `key` gives a row's sort key.
    """
    fetched = list(rows)
    shown = fetched[: page.per_page]
    more = len(fetched) > page.per_page
    return {
        "items": [wire(row) for row in shown],
        "next_cursor": _write(key(shown[-1]), page.scope) if more else None,
    }


def _write(key: tuple[Any, ...], scope: bytes) -> str:
    body = orjson.dumps([_encode(part) for part in key])
    mac = _mac(_signing_keys[0], body, scope)
    return base64.urlsafe_b64encode(mac + body).rstrip(b"=").decode()


def _read(cursor: str, scope: bytes) -> tuple[Any, ...]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    # Base64 has spare bits at its end: only the spelling that we wrote is ours.
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != cursor.encode():
        raw = b""
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not any(hmac.compare_digest(mac, _mac(key, body, scope)) for key in _signing_keys):
        raise Invalid(details={"cursor": ["Is not a cursor of this list."]})
    return tuple(_decode(part) for part in orjson.loads(body))


def _mac(key: bytes, body: bytes, scope: bytes) -> bytes:
    return hmac.digest(key, hashlib.sha256(scope).digest() + body, "sha256")[:_MAC_BYTES]


def _encode(part: Any) -> list[Any]:
    kind = {datetime: "t", UUID: "u", int: "i", str: "s"}[type(part)]
    return [kind, part if kind in "is" else str(part)]


def _decode(part: list[Any]) -> Any:
    kind, value = part
    if kind == "t":
        return datetime.fromisoformat(value)
    return UUID(value) if kind == "u" else value
