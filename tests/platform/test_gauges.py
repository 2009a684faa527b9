"""Numbers that are read as somebody scrapes, and that no scrape depends on."""

import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from app.platform import db, gauges
from app.platform.errors import Unavailable
from app.platform.gauges import Gauge, Gauges


class Reader:
    """Counts how often it is asked, and fails if it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: Exception | None = None

    def __call__(self) -> Sequence[Gauge]:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return [Gauge("tea_cups", "Cups of tea.", self.asked)]


@pytest.mark.usefixtures("pool")
def test_numbers_are_read_once_in_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    shown = Gauges(reader)
    first = shown.exposition().decode()
    assert first == "# HELP tea_cups Cups of tea.\n# TYPE tea_cups gauge\ntea_cups 1.0\n"
    assert shown.exposition().decode() == first
    monkeypatch.setattr(gauges, "KEPT_SECONDS", 0.0)
    shown = Gauges(reader)
    assert [b"tea_cups 2.0" in shown.exposition(), b"tea_cups 3.0" in shown.exposition()] == [
        True,
        True,
    ]


@pytest.mark.usefixtures("pool")
def test_many_scrapes_at_once_read_once() -> None:
    reader = Reader()
    shown = Gauges(reader)
    scrapes = [threading.Thread(target=shown.exposition) for _ in range(4)]
    for scrape in scrapes:
        scrape.start()
    for scrape in scrapes:
        scrape.join()
    assert reader.asked == 1


@pytest.mark.usefixtures("pool")
def test_what_can_not_be_read_is_left_out_and_not_asked_for_again_at_once() -> None:
    reader = Reader()
    reader.fault = Unavailable()
    shown = Gauges(reader)
    assert (shown.exposition(), shown.exposition(), reader.asked) == (b"", b"", 1)


@pytest.mark.usefixtures("pool")
def test_what_one_reader_can_not_read_leaves_those_of_the_others() -> None:
    failing, other = Reader(), Reader()
    failing.fault = Unavailable()
    assert b"tea_cups 1.0" in Gauges(failing, other).exposition()


@pytest.mark.usefixtures("pool")
def test_a_table_that_is_not_there_yet_stops_no_scrape() -> None:
    def read() -> Sequence[Gauge]:
        with db.reading() as connection:
            connection.execute(text("SELECT number FROM of_a_newer_release"))
        return []

    assert Gauges(read).exposition() == b""


def test_a_process_without_a_pool_reads_nothing() -> None:
    pool, db._pool = db._pool, None
    try:
        assert Gauges(Reader()).exposition() == b""
    finally:
        db._pool = pool
