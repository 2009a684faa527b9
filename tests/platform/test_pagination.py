"""Cursors can't be edited, moved to another list or lent to another user."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.platform import ids, pagination
from app.platform.actor import Actor
from app.platform.errors import Invalid

ALICE = Actor(kind="user", user_id=ids.new())
BOB = Actor(kind="user", user_id=ids.new())
SEEN = (datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), UUID(int=7), 12, "sku")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign with a key of this test's own."""
    monkeypatch.setattr(pagination, "_signing_keys", [b"k" * 32])


def page(actor: Actor = ALICE, route: str = "users", **arguments: Any) -> pagination.Page:
    """Ask for a page with the defaults of PageQuery."""
    return pagination.page({"per_page": 2} | arguments, route=route, actor=actor)


def next_cursor(**filters: Any) -> str:
    """Return the cursor after a first page of two rows."""
    first = page(**filters)
    assert first.limit == 3
    listed = pagination.listing(
        first, [SEEN, SEEN, SEEN], wire=lambda row: {"n": row[2]}, key=lambda row: row
    )
    assert listed["items"] == [{"n": 12}, {"n": 12}]
    return str(listed["next_cursor"])


def test_a_cursor_brings_back_the_sort_key_with_its_types() -> None:
    """Times, ids, integers and strings come back as they went in."""
    assert page(cursor=next_cursor()).after == SEEN
    assert page(cursor=next_cursor(name="a"), name="a").after == SEEN


def test_the_last_page_has_no_cursor() -> None:
    """No further row was fetched, so there is nothing to continue with."""
    listed = pagination.listing(page(), [SEEN], wire=lambda row: {}, key=lambda row: row)
    assert listed == {"items": [{}], "next_cursor": None}


def test_a_cursor_is_bound_to_user_route_and_filters() -> None:
    """Each of them changed makes it somebody else's cursor."""
    cursor = next_cursor(name="a")
    changed: list[dict[str, Any]] = [
        {"actor": BOB, "name": "a"},
        {"route": "audit", "name": "a"},
        {"name": "b"},
        {},
    ]
    for other in changed:
        with pytest.raises(Invalid):
            page(cursor=cursor, **other)


def test_an_edited_cursor_is_refused() -> None:
    """One changed character anywhere breaks the signature; so does any other text."""
    cursor = next_cursor()
    edited = [
        cursor[:i] + ("A" if c != "A" else "B") + cursor[i + 1 :] for i, c in enumerate(cursor[:-1])
    ]
    for text in [*edited, "", "x", "====", "ä", cursor + "AAAA"]:
        with pytest.raises(Invalid):
            page(cursor=text)


def test_a_cursor_outlives_its_key_as_long_as_that_is_known() -> None:
    """The first key signs, all of them verify."""
    old, new = next_cursor(), b"n" * 32
    pagination.use_keys([new, b"k" * 32])
    assert page(cursor=old).after == SEEN
    assert next_cursor() != old
    pagination.use_keys([new])
    with pytest.raises(Invalid):
        page(cursor=old)


def test_pages_end_at_row_ten_thousand() -> None:
    """An offset reads everything before it, so that it is only taken so far."""
    assert page(per_page=100, page=100).offset == 9900
    with pytest.raises(Invalid):
        page(per_page=100, page=101)
    with pytest.raises(Invalid):
        page(page=1, cursor=next_cursor())


def test_a_page_above_the_limit_counts_as_the_limit() -> None:
    """101 rows asked for are 100 rows."""
    assert page(per_page=1_000_000).per_page == 100
