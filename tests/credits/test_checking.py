"""When the books are checked, by whom, and what is told of it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from sqlalchemy.exc import DBAPIError

from app.credits import keeping, state, verification
from app.credits.state import LedgerState
from app.platform import clock
from app.platform.db import transaction
from app.platform.settings import Settings
from app.worker import tasks
from tests.credits.plain_sql import change
from tests.people import TestUser
from tests.sentry_receiver import receiving
from tests.support.test_jobs import DEFER
from tests.worker.working import working

MakeUser = Callable[..., TestUser]


@pytest.mark.parametrize(
    ("took", "rests"), [(0.1, 600), (59.9, 600), (61, 610), (240, 2_400), (3_600, 36_000)]
)
def test_checks_take_a_tenth_of_the_time_at_most(took: float, rests: int) -> None:
    begun = clock.now()
    last = LedgerState(
        frozen_at=None, frozen_reason=None, checked_at=begun, check_seconds=took, differences=0
    )
    assert not keeping.is_due(begun + timedelta(seconds=rests - 1), last)
    assert keeping.is_due(begun + timedelta(seconds=rests), last)


@pytest.mark.usefixtures("empty_database")
def test_a_check_is_due_at_first_and_then_every_ten_minutes() -> None:
    assert keeping.Checking().check_if_due()
    # Another worker sees what this one has noted.
    assert not keeping.Checking().check_if_due()
    with time_machine.travel(clock.now() + timedelta(minutes=10)):
        assert keeping.Checking().check_if_due()


def test_a_check_that_fails_rests_as_well(
    empty_database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = ("SELECT 1 / 0 AS wrong FROM pg_sleep(0.2)", {"wrong": ""})
    monkeypatch.setattr("app.credits.verification.CHECKS", (slow,))
    checking = keeping.Checking()
    with pytest.raises(DBAPIError):
        checking.check_if_due()
    assert not checking.check_if_due()
    assert state.read().checked_at is None


def test_a_worker_checks_the_books_and_reports_what_it_freezes(
    empty_database: Settings, make_user: MakeUser, tmp_path: Path
) -> None:
    ada = make_user(credits=5)
    change(empty_database, ada.id, by=1)
    with transaction() as session:
        session.execute(DEFER, {"name": tasks.CHECK})
    with (
        receiving() as sentry,
        working(empty_database, tmp_path, APP_SENTRY_DSN=sentry.dsn) as worker,
    ):
        line = worker.until("ledger_frozen")
        worker.until("ledger_checked")
        assert worker.end()[0] == 0
        (reported,) = sentry.events()
    assert line["level"] == "error"
    assert reported["exception"]["values"][0]["type"] == "BooksDiffer"
    assert state.read().differences == len(list(verification.verify())) == 3


def test_checks_and_folds_run_one_at_a_time(settings: Settings) -> None:
    app = tasks.make_app(settings)
    for name in (tasks.CHECK, tasks.FOLD):
        assert (app.tasks[name].lock, app.tasks[name].queueing_lock) == (name, name)
    periodic = {one.task.name: one.cron for one in app.periodic_registry.periodic_tasks.values()}
    assert periodic.keys() == tasks.BY_THEMSELVES
    assert periodic[tasks.CHECK] == periodic[tasks.FOLD] == "* * * * *"
