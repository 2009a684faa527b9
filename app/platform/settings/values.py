"""The shapes of settings: each turns a raw value into a typed one, or says what it must be.

A shape gets the text of a variable or a native value of a TOML file, never an empty one. No message
repeats the value, which may be a secret, and none passes on a parser's own words, because those
quote what they failed on.
"""

import base64
import binascii
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

Shape = Callable[[Any], Any]
MasterKeys = tuple[tuple[int, bytes], ...]

LEVELS = ("debug", "info", "warning", "error", "critical")
MASTER_KEY_BYTES = 32

# Development secrets carry this word, so that production can refuse one that was copied there.
DEVELOPMENT = "development"
_PLACEHOLDER = re.compile(
    f"{DEVELOPMENT}|change.?(me|this|it)|replace.?(me|this|it)|your.?secret|super.?secret|not.?so.?secret"
    "|placeholder|example|insecure|password",
    re.IGNORECASE,
)


def number(low: int, high: int) -> Shape:
    """Take a whole number in plain digits, from `low` to `high`."""

    def shape(raw: Any) -> int:
        plain = re.fullmatch("[0-9]{1,10}", raw) if isinstance(raw, str) else type(raw) is int
        if not plain or not low <= int(raw) <= high:
            raise ValidationError(f"must be a whole number from {low} to {high}")
        return int(raw)

    return shape


def seconds(low: float, high: float) -> Shape:
    """Take a number of seconds, from `low` to `high`; parts of a second are fine."""

    def shape(raw: Any) -> float:
        plain = (
            re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,10})?", raw)
            if isinstance(raw, str)
            else type(raw) in (int, float)
        )
        if not plain or not low <= float(raw) <= high:
            raise ValidationError(f"must be a number of seconds from {low:g} to {high:g}")
        return float(raw)

    return shape


def share(raw: Any) -> float:
    """Take a number from 0 to 1.

    Raises ValidationError.
    """
    plain = (
        re.fullmatch(r"[0-9](\.[0-9]{1,10})?", raw)
        if isinstance(raw, str)
        else type(raw) in (int, float)
    )
    if not plain or not 0 <= float(raw) <= 1:
        raise ValidationError("must be a number from 0 to 1")
    return float(raw)


def switch(raw: Any) -> bool:
    """Take true or false, whatever its case.

    Raises ValidationError.
    """
    text = str(raw).lower() if isinstance(raw, str | bool) else ""
    if text not in ("true", "false"):
        raise ValidationError("must be true or false")
    return text == "true"


def choice(*words: str) -> Shape:
    """Take one of `words`, whatever its case."""

    def shape(raw: Any) -> str:
        for word in words:
            if isinstance(raw, str) and raw.lower() == word.lower():
                return word
        raise ValidationError(f"must be one of {', '.join(words)}")

    return shape


def matching(pattern: str, sentence: str) -> Shape:
    """Take a text that `pattern` matches as a whole; `sentence` says what it must be."""

    def shape(raw: Any) -> str:
        if not isinstance(raw, str) or not re.fullmatch(pattern, raw):
            raise ValidationError(sentence)
        return raw

    return shape


def listed(item: Shape) -> Shape:
    """Take a list, or texts separated by commas; each fits `item`, and each counts once."""

    def shape(raw: Any) -> tuple[Any, ...]:
        parts = raw.split(",") if isinstance(raw, str) else raw
        if not isinstance(parts, list):
            raise ValidationError("must be a list")
        texts = [part.strip() if isinstance(part, str) else part for part in parts]
        return tuple(dict.fromkeys(item(text) for text in texts if text != ""))

    return shape


LINE = matching(".{1,255}", "must have 1 to 255 characters")
VISIBLE = matching("[!-~]+", "must consist of visible ASCII characters")


def folder(raw: Any) -> Path:
    """Take the path of a folder, which need not exist.

    Raises ValidationError.
    """
    if not isinstance(raw, str):
        raise ValidationError("must be the path of a folder")
    return Path(raw)


def levels(raw: Any) -> tuple[tuple[str, str], ...]:
    """Take log levels by module: `app=debug,sqlalchemy=warning`, or a TOML table.

    Raises ValidationError.
    """
    pairs = (
        [tuple(part.strip().partition("=")[::2]) for part in raw.split(",") if part.strip()]
        if isinstance(raw, str)
        else list(raw.items() if isinstance(raw, dict) else [("", "")])
    )
    found = [(name.strip(), str(level).strip().lower()) for name, level in pairs]
    if not all(re.fullmatch(r"\w+(\.\w+)*", name) and level in LEVELS for name, level in found):
        raise ValidationError(
            "must be pairs such as app=debug,sqlalchemy=warning, with the levels "
            + ", ".join(LEVELS)
        )
    return tuple(dict(found).items())


def master_keys(raw: Any) -> MasterKeys:
    """Take numbered keys of 32 bytes, `2:<base64>,1:<base64>`; the first signs and encrypts.

    Raises ValidationError.
    """
    keys: dict[int, bytes] = {}
    for part in raw.split(",") if isinstance(raw, str) else [""]:
        label, _, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if (
            not re.fullmatch("[1-9][0-9]{0,8}", label)
            or int(label) in keys
            or len(key) != MASTER_KEY_BYTES
        ):
            raise ValidationError(
                "must be numbered keys such as 1:<32 bytes in base64>, separated by commas, each"
                ' number once, the newest first; make one with: echo "1:$(openssl rand -base64 32)"'
            )
        keys[int(label)] = key
    return tuple(keys.items())


def is_placeholder(secret: str | bytes) -> bool:
    """Tell whether a secret comes from a template or from development, or isn't random at all."""
    text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
    # Equal distances between neighbours: one character again and again, 01234567, all zeros.
    distances = {(ord(b) - ord(a)) % 256 for a, b in pairwise(text)}
    return bool(_PLACEHOLDER.search(text)) or (len(text) >= 16 and len(distances) < 4)
