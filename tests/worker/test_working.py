"""A worker does what is left for it, each job once, and says so without anybody's data."""

import base64
import secrets
import time
from pathlib import Path

import pytest

from tests.commands import command
from tests.database import Databases
from tests.worker.office import Office
from tests.worker.working import wait_until, working


@pytest.mark.usefixtures("traced")
def test_mails_are_delivered_soon_and_one_line_tells_of_each_job(
    office: Office, tmp_path: Path
) -> None:
    with working(office.settings, tmp_path) as worker:
        # The first of all waits for the connections.
        office.ask()
        worker.until("mail_written")
        asked = office.ask(3)
        wait_until(lambda: office.states() == {"sent"}, worker, patience=5)
        wait_until(lambda: not office.jobs(), worker)
        assert all(office.arrived(mail_id) for mail_id in asked)
        line = worker.until("job_done", times=4)
        assert line.keys() >= {"task", "job_id", "seconds", "attempts", "timestamp", "service"}
        code, seconds = worker.end()
        assert code == 0
        assert seconds < 10
        text = worker.text()
    assert [line["event"] for line in worker.lines("worker_stopped")] == ["worker_stopped"]
    assert "example.com" not in text
    # What the libraries have to say at the start, and of each step, is no news.
    assert '"logger":"procrastinate' not in text
    assert '"logger":"psycopg' not in text


def test_two_workers_share_the_jobs_and_do_each_once(office: Office, tmp_path: Path) -> None:
    with (
        working(office.settings, tmp_path) as one,
        working(office.settings, tmp_path) as other,
    ):
        asked = office.ask(300)
        wait_until(lambda: office.states() == {"sent"}, one, other, patience=60)
        wait_until(lambda: not office.jobs(), one, other)
        assert one.end()[0] == other.end()[0] == 0
    shares = [
        [line["job_id"] for line in worker.lines("job_done") if line["task"] == "mail.deliver"]
        for worker in (one, other)
    ]
    written = [line["file"] for worker in (one, other) for line in worker.lines("mail_written")]
    assert all(shares)
    assert len({*shares[0], *shares[1]}) == len(shares[0] + shares[1]) == len(asked)
    assert sorted(Path(file).stem for file in written) == sorted(str(one) for one in asked)


@pytest.mark.usefixtures("traced")
def test_without_a_mail_server_mails_wait_for_one_and_no_try_is_counted(
    office: Office, tmp_path: Path
) -> None:
    (mail_id,) = office.ask()
    production = {
        "APP_ENV": "production",
        "APP_AUTH_MASTER_KEYS": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "APP_PUBLIC_URL": "https://bursar.example.com",
    }
    with working(office.settings, tmp_path, **production) as worker:
        worker.until("events_wait_for_a_mail_server")
        time.sleep(2)
        assert worker.end()[0] == 0
    assert office.jobs() == []
    assert office.sql("SELECT subject_id FROM outbox_events") == [(mail_id,)]
    with working(office.settings, tmp_path) as worker:
        wait_until(lambda: office.states() == {"sent"}, worker)


def test_a_job_that_only_a_newer_worker_knows_is_left_for_one(
    office: Office, tmp_path: Path
) -> None:
    office.sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'tea.make')"
    )
    with working(office.settings, tmp_path) as worker:
        wait_until(lambda: office.jobs()[0].attempts == 1, worker)
        (job,) = office.jobs()
        assert job.status == "todo"
        assert job.scheduled_at is not None
        assert worker.process.poll() is None


@pytest.mark.usefixtures("traced")
def test_a_worker_without_its_tables_says_what_to_do_and_waits_for_them(
    databases: Databases, tmp_path: Path
) -> None:
    with databases.unmigrated() as settings, working(settings, tmp_path) as worker:
        said = worker.until("worker_waits_for_a_schema")
        assert (said["schema"], said["advice"]) == ("behind", "Migrate first: flask db upgrade.")
        assert worker.end()[0] == 0


def test_the_command_explains_itself(office: Office) -> None:
    assert "--grace" in command(office.settings, "worker", "--help").stdout
