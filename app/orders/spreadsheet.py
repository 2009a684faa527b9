"""Orders as a file for spreadsheets: CSV (RFC 4180), written as it is read."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

COLUMNS: Final = (
    "id", "user_id", "status", "items", "subtotal", "discount", "discount_code", "total",
    "refunded", "created_at", "expires_at", "paid_at", "fulfilled_at", "cancelled_at",
    "cancel_reason",
)  # fmt: skip
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection): of a cell, or
# after what some of them part cells at, whatever was agreed.
_FORMULA: Final = re.compile(r"^ *(?=[=+\-@\t\r\n])|[;,\t\r\n]+ *(?=[=+\-@])")
# Lines go out together, up to so many bytes.
_TOGETHER: Final = 16 << 10


def lines(orders: Iterable[Any]) -> Iterator[bytes]:
    """Give the header and one line for each order, in UTF-8, some together."""
    text = io.StringIO()
    write = csv.writer(text).writerow
    write(COLUMNS)
    for order in orders:
        write([_cell(order[name]) for name in COLUMNS])
        if text.tell() >= _TOGETHER:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


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
    return _FORMULA.sub(r"\g<0>'", text)
