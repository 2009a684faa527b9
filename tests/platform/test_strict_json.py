"""JSON that can be read in two ways, or that we can't store, is refused."""

import pytest

from app.platform.errors import BadRequest
from app.platform.strict_json import loads


@pytest.mark.parametrize(
    "body",
    [
        b'{"amount": 5, "memo": "caf\xc3\xa9", "nested": [{"a": null}, true, 1.5]}',
        b'"plain"',
        b"[" * 32 + b"]" * 32,
        b'{"emoji": "\\ud83d\\ude00"}',
    ],
)
def test_unambiguous_json_is_read(body: bytes) -> None:
    """A whole surrogate pair is one character, and 32 levels are allowed."""
    assert loads(body) is not None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b'{"a": 1} x', "malformed"),
        (b"{'a': 1}", "malformed"),
        (b'{"a": 1, "a": 2}', "key twice"),
        (b'{"n": {"a": 1, "a": 2}}', "key twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": "\x00"}', "malformed"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ["\\udfff"]}', "surrogate"),
        (b"\xff\xfe{\x00}\x00", "malformed"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b"[" * 33 + b"]" * 33, "nested deeper"),
        (b"[" * 100_000, "malformed"),
        (b'{"a":' * 100_000, "malformed"),
        (b'{"a": ' + b"9" * 5000 + b"}", "malformed"),
    ],
)
def test_everything_else_is_a_bad_request(body: bytes, reason: str) -> None:
    """The message says what is wrong without repeating the body."""
    with pytest.raises(BadRequest) as refused:
        loads(body)
    assert reason in refused.value.text
