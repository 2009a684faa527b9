"""Whatever somebody has put into a field: its line stays one line, in its place, and short."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from app.platform import log_lines
from app.platform.log_lines import LINE_BYTES, Line

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Each ends a line, moves the cursor, or turns the direction of writing for somebody who reads it.
DANGEROUS = "\n\r\v\f\x1b\x85\x9b\x00\x07\x08\x7f\u2028\u2029\u200b\u200e\u202e\u2066\ufeff\ud800"
FORGED = '"}\n{"event":"forged"}\r\n03:04:05 error    app: forged\x1b[2K\x9b2K\u2028\ud83d'


class Unspeakable:
    """An object that can't even be shown."""

    def __str__(self) -> str:
        raise RuntimeError


def line_with(**fields: Any) -> Line:
    return {"timestamp": TIME, "level": "info", "event": "e", "logger": "app.some", **fields}


def as_json(**fields: Any) -> bytes:
    return log_lines.json_renderer("1.0")(line_with(**fields))


def pretty(**fields: Any) -> bytes:
    return log_lines.pretty(line_with(**fields))


def is_one_harmless_line(rendered: bytes) -> bool:
    text = rendered.decode()
    return text.endswith("\n") and len(text.splitlines()) == 1 and text[:-1].isprintable()


@pytest.mark.parametrize("character", DANGEROUS)
@pytest.mark.parametrize("render", [as_json, pretty])
def test_no_character_leaves_its_line(render: Any, character: str) -> None:
    for fields in (
        {"event": f"a{character}b"},
        {"path": f"a{character}b"},
        {"ids": {f"a{character}b": f"a{character}b"}},
        {"problems": [f"a{character}b"]},
    ):
        assert is_one_harmless_line(render(**fields)), fields


def test_json_holds_what_was_meant() -> None:
    text = "Zoë 𝄞 \x1b[31m\u2028\x7f"
    rendered = as_json(name=text, ids={"é": [text]})
    assert rendered.isascii()
    read = json.loads(rendered)
    assert (read["name"], read["ids"]) == (text, {"é": [text]})


def test_nobody_can_forge_a_line_beside_an_error_either() -> None:
    error = ValueError(FORGED)
    with suppress(ValueError):
        raise error
    assert is_one_harmless_line(as_json(exc_info=error))
    first, *rest = pretty(exc_info=error).decode().split("\n")[:-1]
    assert first.endswith("app.some: e")
    # A traceback is indented, and no other line is.
    assert {each[:2] for each in rest} == {"  "}
    assert all(each.isprintable() for each in rest)
    assert any("forged" in each for each in rest)


@pytest.mark.parametrize("render", [as_json, pretty])
@pytest.mark.parametrize("piece", ["a", "\x01", "é", "𝄞", "\ud800", "\\", '"'])
def test_no_line_is_longer_than_the_limit(render: Any, piece: str) -> None:
    long = piece * 20_000
    fields = {f"field_{number}": long for number in range(20)}
    for rendered in (render(path=long), render(event=long), render(ids={"a": [long]} | fields)):
        assert len(rendered) <= LINE_BYTES
        assert is_one_harmless_line(rendered)


def test_a_line_that_is_cut_keeps_what_it_is_found_by() -> None:
    read = json.loads(
        as_json(request_id="r-1", status=404, share=0.5, path="a" * 50_000, user=None)
    )
    assert read["timestamp"] == "2026-01-02T03:04:05Z"
    assert (read["request_id"], read["status"], read["share"]) == ("r-1", 404, 0.5)
    assert read["path"] == "a" * 1_000 + "…"
    assert (read["user"], read["service"], read["version"]) == (None, "bursar", "1.0")


@pytest.mark.parametrize(
    "value",
    [1 << 70, float("nan"), float("inf"), {(1, 2): 3}, Unspeakable(), {"\ud800": 1}, b"\xff"],
)
def test_what_json_has_no_word_for_makes_no_line_fail(value: Any) -> None:
    read = json.loads(as_json(value=value, at=TIME))
    assert read["timestamp"] == read["at"] == "2026-01-02T03:04:05Z"
    assert is_one_harmless_line(pretty(value=value))


def test_what_contains_itself_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert json.loads(as_json(value=circle))["value"] == "[[...]]"
