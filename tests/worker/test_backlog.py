"""The metrics tell what waits for the workers, since when, and whether any is there."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert

from app.mail import service as mails
from app.platform import clock, outbox
from app.platform.db import transaction
from app.platform.gauges import Gauges
from app.worker import backlog
from app.worker.relay import relay
from tests.limiting import later
from tests.scraped import samples
from tests.worker.office import Office


def shown() -> dict[str, float]:
    """Return the numbers of this moment."""
    text = Gauges(outbox.gauges, backlog.gauges, mails.gauges).exposition()
    return samples(text.decode())


def test_where_nothing_is_to_be_done_everything_is_zero(office: Office) -> None:
    assert shown() == {
        "outbox_events_waiting": 0,
        "outbox_oldest_age_seconds": 0,
        "jobs_waiting": 0,
        "jobs_oldest_age_seconds": 0,
        "jobs_postponed": 0,
        "jobs_failed": 0,
        "job_workers": 0,
        "mails_dead": 0,
    }


def test_events_wait_until_they_are_jobs_and_jobs_until_somebody_does_them(office: Office) -> None:
    office.ask(3)
    with later(100):
        now = shown()
    assert now["outbox_events_waiting"] == 3
    assert 100 <= now["outbox_oldest_age_seconds"] < 110
    assert relay() == 3
    with later(200):
        now = shown()
    assert (now["outbox_events_waiting"], now["outbox_oldest_age_seconds"]) == (0, 0)
    assert now["jobs_waiting"] == 3
    assert 200 <= now["jobs_oldest_age_seconds"] < 210


def test_the_oldest_event_is_the_first_of_many(office: Office) -> None:
    office.ask()
    with later(50):
        office.ask(2)
    with later(60):
        assert 60 <= shown()["outbox_oldest_age_seconds"] < 70


def test_the_oldest_event_may_have_any_id(office: Office) -> None:
    """Those that triggers write have random ids."""
    office.ask()
    with transaction() as session:
        session.execute(
            insert(outbox.outbox_events),
            {
                "id": UUID(int=2**128 - 1),
                "topic": "user.created",
                "subject_id": UUID(int=1),
                "created_at": clock.now() - timedelta(seconds=500),
            },
        )
    assert 500 <= shown()["outbox_oldest_age_seconds"] < 510


def test_more_than_can_be_counted_in_time_is_not_counted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (outbox, backlog):
        monkeypatch.setattr(module, "MOST_COUNTED", 4)
    office.ask(6)
    relay()
    office.ask(5)
    now = shown()
    assert (now["outbox_events_waiting"], now["jobs_waiting"]) == (4, 4)


def test_a_job_that_failed_waits_for_its_next_try_until_it_has_failed_for_good(
    office: Office,
) -> None:
    office.ask(3)
    relay()
    first, second, _ = [job.id for job in office.jobs()]
    at = clock.now() + timedelta(seconds=300)
    office.sql(
        "UPDATE procrastinate_jobs SET scheduled_at = :at, attempts = 1 WHERE id = :id",
        at=at, id=first,
    )  # fmt: skip
    office.sql("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = :id", id=second)
    office.sql("UPDATE mails SET state = 'dead', settled_at = :at WHERE id IN"
               " (SELECT id FROM mails LIMIT 2)", at=at)  # fmt: skip
    now = shown()
    assert (now["jobs_postponed"], now["jobs_waiting"], now["jobs_failed"]) == (1, 1, 1)
    assert now["mails_dead"] == 2
    office.sql("DELETE FROM procrastinate_jobs WHERE id > :id", id=second)
    with later(310):
        now = shown()
    # Late since it was due, not since it was made.
    assert (now["jobs_postponed"], now["jobs_waiting"]) == (0, 1)
    assert 9 <= now["jobs_oldest_age_seconds"] < 20


def test_a_worker_counts_as_long_as_it_says_that_it_lives(office: Office) -> None:
    office.sql("INSERT INTO procrastinate_workers DEFAULT VALUES")
    assert shown()["job_workers"] == 1
    with later(60):
        assert shown()["job_workers"] == 0
