"""Orders as a file for spreadsheets: CSV (RFC 4180), written as it is read."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

COLUMNS: Final = (
    "id", "user_id", "status", "items", "subtotal", "discount", "discount_code", "total",
    "refunded", "created_at", "expires_at", "paid_at", "fulfilled_at", "cancelled_at",
    "cancel_reason",
)  # fmt: skip
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def lines(orders: Iterable[Any]) -> Iterator[bytes]:
    """Give the header and one line for each order, in UTF-8, as they come."""
    yield _line(COLUMNS)
    for order in orders:
        yield _line(_cell(order[name]) for name in COLUMNS)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return harmless("; ".join(map(_item, value)))
    return harmless(value) if isinstance(value, str) else value


def _item(item: Mapping[str, Any]) -> str:
    return f"{item['quantity']} x {item['name']} ({item['sku']})"


def harmless(text: str) -> str:
    """Return a text that no spreadsheet runs: an apostrophe before what could be a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _line(cells: Iterable[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()
