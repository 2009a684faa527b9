"""The database goes away and comes back while a worker idles, works, and notes what it has done."""

import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres, urls
from app.platform.errors import Unavailable
from app.platform.settings import Settings, load_settings
from tests.database import Databases, pool_on
from tests.worker.office import Office, opened
from tests.worker.working import Worker, wait_until, working

# Of one that waits for a lock: others may be noted at the same moment.
FINISHING = "query LIKE '%%procrastinate_finish_job%%' AND wait_event_type = 'Lock'"
EVERYBODY = "application_name LIKE 'bursar%%'"


def terminate(databases: Databases, office: Office, which: str = EVERYBODY) -> int:
    """End connections of a worker, and return how many there were."""
    name = make_url(office.settings.database_url).database
    with (
        closing(psycopg2.connect(databases.superuser_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = %s AND pid <> pg_backend_pid() AND {which}",
            (name,),
        )
        return cursor.rowcount


def failures(worker: Worker, task: str) -> list[dict[str, Any]]:
    """Return the lines of a task's jobs that have failed."""
    return [line for line in worker.lines("job_failed") if line["task"] == task]


def test_a_worker_goes_on_after_all_its_connections_were_ended(
    office: Office, databases: Databases, tmp_path: Path
) -> None:
    with working(office.settings, tmp_path) as worker:
        office.ask()
        wait_until(lambda: office.states() == {"sent"}, worker)
        for _ in range(3):
            for _ in range(2):
                terminate(databases, office)
                # This process's own connections have ended as well.
                with suppress(Unavailable):
                    office.ask()
            wait_until(lambda: office.states() == {"sent"}, worker, patience=20)
        wait_until(lambda: not office.jobs(), worker)
        assert worker.end()[0] == 0


def test_a_job_whose_connections_were_ended_is_tried_again(
    office: Office, databases: Databases, tmp_path: Path
) -> None:
    (mail_id,) = office.ask()
    held = ExitStack()
    held.enter_context(office.holding("SELECT FROM mails FOR UPDATE"))
    with held, working(office.settings, tmp_path) as worker:
        wait_until(lambda: office.jobs() and office.jobs()[0].status == "doing", worker)
        terminate(databases, office)
        # What comes by itself may have been at work, too.
        wait_until(lambda: failures(worker, "mail.deliver"), worker)
        (line,) = failures(worker, "mail.deliver")
        assert (line["level"], line["error"]) == (
            "warning",
            "app.platform.errors.Unavailable: UNAVAILABLE",
        )
        held.close()
        wait_until(lambda: office.jobs()[0].status == "todo", worker)
        office.sql("UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - interval '15 s'")
        wait_until(lambda: office.arrived(mail_id), worker)
        wait_until(lambda: not office.jobs(), worker)


def test_the_end_of_a_job_is_noted_though_the_note_met_a_fault(
    office: Office, databases: Databases, tmp_path: Path
) -> None:
    (mail_id,) = office.ask()
    held, noting = ExitStack(), ExitStack()
    held.enter_context(office.holding("SELECT FROM mails FOR UPDATE"))
    with noting, held, working(office.settings, tmp_path) as worker:
        wait_until(lambda: office.jobs() and office.jobs()[0].status == "doing", worker)
        (job,) = office.jobs()
        lock = f"SELECT FROM procrastinate_jobs WHERE id = {job.id} FOR UPDATE"
        noting.enter_context(office.holding(lock))
        held.close()
        wait_until(lambda: terminate(databases, office, FINISHING) == 1, worker)
        noting.close()
        # Sooner than anybody is rescued.
        wait_until(lambda: not office.jobs(), worker, patience=5)
    assert office.arrived(mail_id)
    assert not worker.lines("job_rescued")


def test_a_worker_waits_for_a_database_that_is_away_and_loses_nothing(
    data_dir: Path, tmp_path: Path, settings: Settings, pool: None
) -> None:
    application, owner = urls(data_dir)
    variables = {"APP_DATABASE_URL": application, "APP_DATABASE_MIGRATION_URL": owner}
    own = load_settings({"APP_ENV": "test", "APP_DATA_DIR": str(data_dir), **variables})
    database = EmbeddedPostgres.start(data_dir, say=lambda sentence: None)
    try:
        migrations.upgrade(own)
        with pool_on(own, instead_of=settings), opened(own) as office:
            office.ask()
            database.stop(immediate=True)
            with working(own, tmp_path) as worker:
                worker.until("worker_database_away")
                for _ in range(2):
                    database = EmbeddedPostgres.start(data_dir, say=lambda sentence: None)
                    wait_until(lambda: office.states() == {"sent"}, worker, patience=20)
                    office.ask()
                    database.stop(immediate=True)
                    time.sleep(3)
                database = EmbeddedPostgres.start(data_dir, say=lambda sentence: None)
                wait_until(lambda: office.states() == {"sent"}, worker, patience=20)
                # One line each time, however often it tries.
                assert 1 <= len(worker.lines("worker_database_away")) <= 3
                assert worker.lines("worker_database_back")
                assert worker.end()[0] == 0
    finally:
        database.stop(immediate=True)
