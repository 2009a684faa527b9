"""Statements that take long get a line, which never says with which values."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.platform import db, statements
from app.platform.settings import Settings

Lines = Callable[[], list[dict[str, Any]]]
CANARY = "canary-value"


@pytest.fixture
def slow_lines(app: Any, settings: Settings, capfd: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """A function that returns the lines about statements above 30 ms since it was last called."""
    statements.watch(replace(settings, log_slow_query_ms=30))

    def lines() -> list[dict[str, Any]]:
        every = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        return [line for line in every if line["event"] == "slow_query"]

    yield lines
    statements.watch(settings)


def test_a_slow_statement_gets_a_line_and_a_fast_one_does_not(slow_lines: Lines) -> None:
    asked = text("SELECT pg_sleep(:seconds), CAST(:word AS text)")
    with db.reading() as connection:
        connection.execute(asked, {"seconds": 0, "word": CANARY})
        assert slow_lines() == []
        connection.execute(asked, {"seconds": 0.04, "word": CANARY})
    (line,) = slow_lines()
    assert (line["level"], line["logger"]) == ("warning", "app.platform.statements")
    assert line["query"] == "SELECT pg_sleep"
    assert line["text"] == "SELECT pg_sleep(%(seconds)s), CAST(%(word)s AS text)"
    assert line["duration_ms"] >= 40


def test_the_read_of_every_request_is_watched_too(slow_lines: Lines) -> None:
    row = db.first_row("SELECT 1 AS one FROM pg_sleep(%(seconds)s)", {"seconds": 0.04})
    assert row.one == 1
    assert [line["query"] for line in slow_lines()] == ["SELECT pg_sleep"]


def test_several_sets_of_values_are_one_statement(slow_lines: Lines) -> None:
    with db.trial() as session:
        raw = session.connection().connection.cursor()
        raw.executemany("SELECT pg_sleep(%s)", [(0.02,), (0.02,)])
    assert [line["query"] for line in slow_lines()] == ["SELECT pg_sleep"]


def test_a_slow_commit_is_named_too(slow_lines: Lines) -> None:
    with db.transaction() as session:
        session.execute(
            text(
                "CREATE FUNCTION pg_temp.wait() RETURNS trigger LANGUAGE plpgsql AS"
                " 'BEGIN PERFORM pg_sleep(0.04); RETURN NULL; END'"
            )
        )
        session.execute(text("CREATE TEMPORARY TABLE waited (id int) ON COMMIT DELETE ROWS"))
        session.execute(
            text(
                "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON waited DEFERRABLE"
                " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.wait()"
            )
        )
        session.execute(text("INSERT INTO waited VALUES (1)"))
        slow_lines()
    assert [(line["query"], line["text"]) for line in slow_lines()] == [("COMMIT", "COMMIT")]
    with db.transaction() as session:
        session.execute(text("DROP TABLE waited"))


def test_a_slow_statement_that_fails_gets_its_line(slow_lines: Lines) -> None:
    failing = text("SELECT length(CAST(pg_sleep(:seconds) AS text)) / 0")
    with pytest.raises(DBAPIError), db.reading() as connection:
        connection.execute(failing, {"seconds": 0.04})
    assert [line["query"] for line in slow_lines()] == ["SELECT length"]


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("SELECT a.b FROM orders AS a WHERE c = %(c)s", "SELECT orders"),
        ("\n  select count(*)\n  from only public.orders", "SELECT public.orders"),
        ("INSERT INTO order_items (a) VALUES (%(a)s)", "INSERT order_items"),
        ("UPDATE orders SET a = 1", "UPDATE orders"),
        ("DELETE FROM orders", "DELETE orders"),
        ("SELECT post_transfer_v3(%(id)s)", "SELECT post_transfer_v3"),
        ("SELECT * FROM post_transfer_v3(%(id)s)", "SELECT post_transfer_v3"),
        ("WITH a AS (SELECT 1 FROM holds) SELECT * FROM a", "WITH holds"),
        ("SHOW max_connections", "SHOW"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET"),
        ("", "SQL"),
        ("-- nothing", "SQL"),
    ],
)
def test_a_statement_has_a_name(statement: str, name: str) -> None:
    assert statements.name_of(statement) == statements.name_of(statement.encode()) == name


def test_a_long_text_is_cut() -> None:
    long = "SELECT " + "a, " * 10_000 + "b FROM orders"
    assert len(statements.text_of(long)) == statements.TEXT_LENGTH
    assert statements.name_of(long) == "SELECT orders"
    assert statements.text_of(b"SELECT\n  '\xff'") == "SELECT '\ufffd'"
