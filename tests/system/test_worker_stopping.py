"""However a worker ends, what it was doing is done in the end: by itself, or by another one."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.mail.smtp_server import SmtpServer, smtp_server
from tests.worker.office import Office
from tests.worker.working import Worker, wait_until, working


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmtpServer]:
    """A real mail server."""
    with smtp_server(tmp_path / "smtp") as server:
        yield server


@contextmanager
def sending(office: Office, folder: Path, server: SmtpServer, *options: str) -> Iterator[Worker]:
    """Run a worker that hands mails to the server."""
    with working(office.settings, folder, *options, APP_MAIL_URL=server.url) as worker:
        yield worker


def is_being_done(office: Office) -> bool:
    return any(job.status == "doing" for job in office.jobs())


def test_a_job_that_runs_is_finished_before_the_end(office: Office, tmp_path: Path) -> None:
    (mail_id,) = office.ask()
    held = ExitStack()
    # The delivery has to wait in its middle.
    held.enter_context(office.holding("SELECT FROM mails FOR UPDATE"))
    with held, working(office.settings, tmp_path) as worker:
        wait_until(lambda: is_being_done(office), worker)
        worker.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert worker.process.poll() is None
        assert not office.arrived(mail_id)
        held.close()
        assert worker.process.wait(10) == 0
        assert worker.lines("worker_stopped")
    assert office.arrived(mail_id)
    assert office.states() == {"sent"}
    assert office.jobs() == []
    # Nobody has to wait until it counts as dead.
    assert office.sql("TABLE procrastinate_workers") == []


def test_a_worker_that_does_nothing_ends_at_once_whenever_it_is_told_to(
    office: Office, tmp_path: Path
) -> None:
    for wait in (0.0, 0.05, 0.1, 0.2, 0.4):
        with working(office.settings, tmp_path) as worker:
            time.sleep(wait)
            code, seconds = worker.end()
            assert (code, seconds < 5) == (0, True), worker.text()


def test_what_takes_too_long_is_handed_back_and_done_by_another_worker(
    office: Office, tmp_path: Path, server: SmtpServer
) -> None:
    server.mode("hang_data")
    (mail_id,) = office.ask()
    with sending(office, tmp_path, server, "--grace", "1") as worker:
        wait_until(lambda: is_being_done(office), worker)
        time.sleep(1)
        code, seconds = worker.end()
        assert code == 0
        assert 1 <= seconds < 5
        assert worker.lines("job_handed_back")
    (job,) = office.jobs()
    assert (job.status, job.attempts) == ("todo", 1)
    server.mode("ok")
    with sending(office, tmp_path, server) as another:
        wait_until(lambda: office.states() == {"sent"}, another, patience=10)
    (received,) = server.mails()
    assert str(mail_id) in received.mail["Message-ID"]


def test_a_job_of_a_worker_that_was_killed_is_rescued_by_one_that_runs(
    office: Office, tmp_path: Path, server: SmtpServer
) -> None:
    server.mode("hang")
    (mail_id,) = office.ask()
    with sending(office, tmp_path, server) as killed:
        wait_until(lambda: is_being_done(office), killed)
        with sending(office, tmp_path, server) as other:
            wait_until(lambda: len(office.sql("TABLE procrastinate_workers")) == 2, other)
            killed.process.kill()
            killed.process.wait()
            server.mode("ok")
            # Half a minute of silence, without waiting for it.
            office.sql(
                "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '30 s'"
                " WHERE id = (SELECT min(id) FROM procrastinate_workers)"
            )
            other.until("job_rescued", patience=25)
            wait_until(lambda: office.states() == {"sent"}, other, patience=10)
    (received,) = server.mails()
    assert str(mail_id) in received.mail["Message-ID"]


def test_a_second_signal_ends_a_worker_at_once(
    office: Office, tmp_path: Path, server: SmtpServer
) -> None:
    server.mode("hang")
    office.ask()
    with sending(office, tmp_path, server) as worker:
        wait_until(lambda: is_being_done(office), worker)
        worker.process.send_signal(signal.SIGINT)
        with pytest.raises(AssertionError):
            wait_until(lambda: worker.process.poll() is not None, patience=1)
        code, seconds = worker.end(signal.SIGINT)
        assert (code, seconds < 2) == (1, True)
