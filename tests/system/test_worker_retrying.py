"""A mail that fails is tried again, patiently, and given up in the end; an operator revives it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from procrastinate.jobs import Job

from app.platform.errors import Unavailable
from app.worker.tasks import WAITS, is_last
from tests.commands import command, flask
from tests.mail.smtp_server import SmtpServer, smtp_server
from tests.worker.office import Office
from tests.worker.working import Worker, wait_until, working

LATER = "UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - interval '1 day'"


@contextmanager
def refusing(office: Office, folder: Path, mode: str) -> Iterator[tuple[SmtpServer, Worker]]:
    """Run a worker whose mail server refuses, from the first mail on."""
    with smtp_server(folder / "smtp") as server:
        server.mode(mode)
        with working(office.settings, folder, APP_MAIL_URL=server.url) as worker:
            yield server, worker


@pytest.mark.usefixtures("traced")
def test_a_mail_that_fails_is_tried_again_until_it_is_dead_and_an_operator_can_revive_it(
    office: Office, tmp_path: Path
) -> None:
    (mail_id,) = office.ask()
    with refusing(office, tmp_path, "rcpt_451") as (server, worker):
        line = worker.until("job_failed")
        assert (line["level"], line["attempts"]) == ("warning", 1)
        assert (line["error"], line["reason"]) == ("app.mail.errors.MailTemporary", "RCPT 451")
        wait_until(lambda: office.jobs()[0].status == "todo", worker)
        ((wait,),) = office.sql(
            "SELECT extract(epoch FROM scheduled_at - at) FROM procrastinate_jobs job"
            " JOIN procrastinate_events ON job_id = job.id WHERE type = 'deferred_for_retry'"
        )
        assert abs(float(wait) - WAITS[0]) < 1
        assert office.states() == {"waiting"}

        office.sql("UPDATE procrastinate_jobs SET attempts = :last", last=len(WAITS))
        office.sql(LATER)
        line = worker.until("job_failed", times=2)
        assert (line["level"], line["attempts"]) == ("error", len(WAITS) + 1)
        worker.until("mail_dead")
        wait_until(lambda: office.jobs()[0].status == "failed", worker)
        assert office.states() == {"dead"}
        assert str(mail_id) in command(office.settings, "mail", "list").stdout

        server.mode("ok")
        assert flask(office.settings, "mail", "retry", str(mail_id)).stdout.startswith("1 mail ")
        wait_until(lambda: office.states() == {"sent"}, worker)
        (received,) = server.mails()
        assert str(mail_id) in received.mail["Message-ID"]
        assert command(office.settings, "mail", "list").stdout == "0 waiting; 0 given up.\n"
        assert "example.com" not in worker.text()


def test_a_mail_that_is_refused_is_dead_at_once(office: Office, tmp_path: Path) -> None:
    office.ask()
    with refusing(office, tmp_path, "rcpt_550") as (_, worker):
        wait_until(lambda: office.states() == {"dead"}, worker)
        wait_until(lambda: not office.jobs(), worker)


def test_a_job_is_never_given_up_because_our_own_database_was_away() -> None:
    job = Job(id=1, queue="", lock=None, queueing_lock=None, task_name="", attempts=len(WAITS))
    assert is_last(job, OSError())
    assert not is_last(job, Unavailable())
    assert not is_last(job.evolve(attempts=len(WAITS) - 1), OSError())
