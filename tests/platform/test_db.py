"""Transactions, snapshots and reads do what they promise, and say what went wrong in our words."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg2
import pytest
from psycopg2.extensions import set_wait_callback
from psycopg2.extras import wait_select
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from app.platform import db, logging
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from tests.database import pool_on
from tests.platform.things import Thing, add, execute, names

pytestmark = pytest.mark.usefixtures("own_pool")


def test_a_transaction_commits_on_leaving_and_its_objects_stay_readable() -> None:
    with db.transaction() as session:
        thing = Thing(id=1, name="kept")
        session.add(thing)
        session.flush()
        assert names("id = 1") == []
    assert thing.name == "kept"
    assert names("id = 1") == ["kept"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_transaction_rolls_back_on_any_exception(error: type[BaseException]) -> None:
    def change_and_fail() -> None:
        with db.transaction() as session:
            session.add(Thing(id=2, name="lost"))
            session.flush()
            raise error

    with pytest.raises(error):
        change_and_fail()
    assert names("id = 2") == []


@pytest.fixture
def calls() -> list[list[str]]:
    """What was there at each call after a commit."""
    return []


def test_what_is_to_happen_after_a_commit_finds_it_done_and_its_connection_free(
    calls: list[list[str]],
) -> None:
    with db.transaction() as session:
        session.add(Thing(id=80, name="told"))
        for _ in range(2):
            db.after_commit(session, lambda: calls.append(names("id = 80")))
        session.flush()
        assert calls == []
    assert calls == [["told"], ["told"]]
    # Nothing of it is left for the next transaction.
    add(81)
    assert len(calls) == 2


def test_nothing_happens_after_a_rollback_a_failed_commit_or_a_trial(
    calls: list[list[str]],
) -> None:
    def tell() -> None:
        calls.append([])

    def fail(session: Session) -> None:
        raise KeyError

    def fail_late(session: Session) -> None:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    def fail_as_it_commits(session: Session) -> None:
        session.add(Thing(id=82, name="bad"))

    def run(work: Callable[[Session], None]) -> None:
        with db.transaction() as session:
            db.after_commit(session, tell)
            work(session)

    failures: dict[Callable[[Session], None], type[Exception]] = {
        fail: KeyError,
        fail_late: Unavailable,
        fail_as_it_commits: IntegrityError,
    }
    for work, error in failures.items():
        with pytest.raises(error):
            run(work)
    with db.trial() as session:
        db.after_commit(session, tell)
    assert calls == []


def test_a_call_that_fails_after_a_commit_is_logged_and_stops_no_other(
    settings: Settings, calls: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    logging.configure(settings)

    def fail() -> None:
        raise ValueError("Not for the log")

    with db.transaction() as session:
        session.add(Thing(id=83, name="told"))
        db.after_commit(session, fail)
        db.after_commit(session, lambda: calls.append(names("id = 83")))
    assert calls == [["told"]]
    said = capfd.readouterr().err
    assert '"event":"call_after_commit_failed"' in said
    assert "Not for the log" not in said


def test_a_trial_leaves_nothing_behind_and_may_fail_like_a_transaction() -> None:
    with db.trial() as session:
        session.add(Thing(id=84, name="tried"))
        session.flush()
        assert session.scalar(text("SELECT name FROM things WHERE id = 84")) == "tried"
    assert names("id = 84") == []
    with db.trial() as session:
        session.add(Thing(id=84, name="bad"))
        with pytest.raises(IntegrityError):
            session.flush()
    add(84)


def test_a_snapshot_sees_one_moment_and_cannot_write() -> None:
    with db.snapshot() as session:
        before = session.scalar(text("SELECT count(*) FROM things"))
        add(3)
        assert session.scalar(text("SELECT count(*) FROM things")) == before
        with pytest.raises(DBAPIError, match="read-only transaction"):
            session.execute(text("DELETE FROM things"))
    # The next transaction on the same connection may write again.
    add(4)


@pytest.fixture
def round_trips() -> Iterator[list[object]]:
    """Grows by one for each time that psycopg2 waits for the server."""
    waits: list[object] = []

    def wait(connection: object) -> None:
        waits.append(connection)
        wait_select(connection)

    set_wait_callback(wait)
    yield waits
    set_wait_callback(None)


def test_a_read_takes_one_round_trip_and_a_transaction_three(round_trips: list[object]) -> None:
    # A hidden SET or ROLLBACK would be one more for every request.
    for _ in range(2):
        round_trips.clear()
        with db.reading() as connection:
            assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
        assert len(round_trips) == 1
        with db.transaction() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
        assert len(round_trips) == 4
        with db.snapshot() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        assert len(round_trips) == 8


def test_the_first_row_takes_one_round_trip_and_has_names(round_trips: list[object]) -> None:
    add(70)
    round_trips.clear()
    row = db.first_row("SELECT id, name FROM things WHERE id = %(id)s", {"id": 70})
    assert (row.id, len(round_trips)) == (70, 1)
    assert db.first_row("SELECT 1 FROM things WHERE id = %(id)s", {"id": -1}) is None


def test_a_failed_read_of_the_first_row_leaves_the_pool_as_it_was(own: Settings) -> None:
    """A mistake passes, a lost connection is Unavailable, and the next read works in both cases."""
    for _ in range(db.pool_size(own, None) + 5):
        with pytest.raises(psycopg2.ProgrammingError):
            db.first_row("SELECT nothing_of_this_name", {})
        with pytest.raises(Unavailable) as lost:
            db.first_row("SELECT pg_terminate_backend(pg_backend_pid())", {})
        assert isinstance(lost.value.__cause__, psycopg2.OperationalError)
        assert db.first_row("SELECT 1 AS one", {}).one == 1


def test_a_stricter_isolation_level_can_still_be_had(own: Settings) -> None:
    with db.one_connection(own) as connection:
        strict = connection.execution_options(isolation_level="SERIALIZABLE")
        assert strict.scalar(text("SHOW transaction_isolation")) == "serializable"


def test_every_connection_has_its_time_limits() -> None:
    shown = {}
    with db.reading() as connection:
        for name in (
            "lock_timeout",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "client_connection_check_interval",
            "TimeZone",
            "application_name",
        ):
            shown[name] = connection.scalar(text(f"SHOW {name}"))
    assert list(shown.values()) == ["3s", "10s", "15s", "5s", "UTC", "bursar"]


def test_options_in_the_url_are_kept_beside_ours(own: Settings) -> None:
    url = make_url(own.database_url).update_query_dict({"options": "-c work_mem=5MB"})
    given = replace(own, database_url=url.render_as_string(hide_password=False))
    with db.one_connection(given) as connection:
        assert connection.scalar(text("SHOW work_mem")) == "5MB"
        assert connection.scalar(text("SHOW lock_timeout")) == "3s"


def test_a_server_that_has_become_a_standby_is_a_passing_fault(own: Settings) -> None:
    url = make_url(own.database_url).update_query_dict(
        {"options": "-c default_transaction_read_only=on"}
    )
    standby = replace(own, database_url=url.render_as_string(hide_password=False))
    with pool_on(standby, instead_of=own):
        with pytest.raises(Unavailable), db.transaction() as session:
            session.execute(text("DELETE FROM things"))
        with pytest.raises(Unavailable):
            db.first_row("DELETE FROM things RETURNING id", {})
        assert db.first_row("SELECT 1 AS one", {}).one == 1


def test_other_errors_of_the_database_pass_unchanged() -> None:
    with pytest.raises(IntegrityError):
        add(6, "bad")
    with pytest.raises(ProgrammingError):
        execute("SELECT * FROM nowhere")
    # A key that no index page can hold will never fit: repeating it would be in vain.
    with pytest.raises(DBAPIError, match="index row"):
        execute(
            "CREATE TEMP TABLE wide (x text PRIMARY KEY)",
            "INSERT INTO wide SELECT string_agg(md5(n::text), '') FROM generate_series(1, 999) n",
        )


def test_error_messages_do_not_show_parameters() -> None:
    # PostgreSQL itself quotes the line that it complains about, so this one stands apart.
    statement = text("INSERT INTO nowhere\nVALUES (:email)")
    with pytest.raises(DBAPIError) as caught, db.reading() as connection:
        connection.execute(statement, {"email": "a@example.org"})
    assert "a@example.org" not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "statement"),
    [("statement_timeout", "SELECT pg_sleep(3)"), ("lock_timeout", "LOCK things")],
)
def test_a_statement_that_takes_too_long_is_a_passing_fault(limit: str, statement: str) -> None:
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with db.transaction() as session:
            session.execute(text("LOCK things"))
            holding.set()
            done.wait(5)

    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(hold)
        assert holding.wait(5)
        with pytest.raises(Unavailable) as caught:
            execute(f"SET LOCAL {limit} = '50ms'", statement)
        done.set()
        held.result()
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert not db.is_retryable(caught.value)


def test_a_deadlock_is_unavailable_and_known_to_be_retryable() -> None:
    add(7)
    add(8)
    both = threading.Barrier(2)

    def update(first: int, second: int) -> BaseException | None:
        try:
            with db.transaction() as session:
                touch = text("UPDATE things SET name = 'z' WHERE id = :id")
                session.execute(touch, {"id": first})
                both.wait(5)
                session.execute(touch, {"id": second})
        except Unavailable as error:
            return error
        return None

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(update, (7, 8), (8, 7)))
    victims = [outcome for outcome in outcomes if outcome is not None]
    assert [db.is_retryable(victim) for victim in victims] == [True]
    assert not db.is_retryable(ValueError())


def test_a_serialization_failure_is_retryable() -> None:
    add(9)

    def overtaken() -> None:
        with db.transaction() as session:
            session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            session.execute(text("SELECT 1"))
            execute("UPDATE things SET name = 'first' WHERE id = 9")
            session.execute(text("UPDATE things SET name = 'second' WHERE id = 9"))

    with pytest.raises(Unavailable) as caught:
        overtaken()
    assert db.is_retryable(caught.value)
    assert names("id = 9") == ["first"]
