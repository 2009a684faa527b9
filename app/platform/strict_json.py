"""Reads JSON that can mean only one thing, and refuses the rest.

Refused: duplicate keys, `NaN` and infinities, NUL, lone surrogates, nesting above 32, integers of
thousands of digits, anything but UTF-8. Parsers that let these through disagree about them, and
PostgreSQL can't store some of them (RFC 8259, section 8, and RFC 7493).
"""

import json
from typing import Any, NoReturn

from app.platform.errors import BadRequest

MAX_DEPTH = 32


def loads(body: bytes) -> Any:
    """Return the value in a JSON text.

    Raises BadRequest.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        _check(value)
    except (ValueError, RecursionError) as error:
        # `ValueError` covers broken JSON, broken UTF-8 and integers of too many digits.
        reason = str(error) if isinstance(error, _Refused) else "it is malformed"
        raise BadRequest(f"The body is not acceptable JSON: {reason}.") from None
    return value


class _Refused(ValueError):
    """Well-formed JSON that this service doesn't take."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused("an object has a key twice")
    return members


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _check(value: Any) -> None:
    """Walk the value without recursion, so that its depth can't exhaust our stack."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        depth += any(isinstance(item, dict | list) for item in level)
        if depth > MAX_DEPTH:
            raise _Refused(f"it is nested deeper than {MAX_DEPTH}")
        level = below


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise _Refused("a string contains NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _Refused("a string contains half of a surrogate pair")
