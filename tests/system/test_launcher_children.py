"""Web server and worker under the launcher: up together, down together, and nothing left over."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2

from app.platform import clock
from app.platform.embedded_postgres import urls
from app.platform.ids import new
from app.platform.processes import running_program
from tests.launcher.running import PATIENCE, Run, running, stop
from tests.network import free_port

ASK = """
INSERT INTO mails (id, kind, email, email_key, facts, state, created_at)
VALUES (%(mail)s, 'sign_up', 'ada@example.com', 'ada@example.com', '{"name": "Ada"}', 'waiting',
    %(now)s::timestamptz);
INSERT INTO outbox_events (id, topic, subject_id, created_at)
VALUES (%(event)s, 'mail.requested', %(mail)s, %(now)s::timestamptz)
"""


def ask_for_a_mail(run: Run) -> Path:
    """Leave a mail to be sent in the database of a run, and return the file it is to become."""
    mail = str(new())
    connection = psycopg2.connect(urls(run.data_dir)[1].replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute(ASK, {"mail": mail, "event": str(new()), "now": clock.now()})
    connection.close()
    return run.data_dir / "mail" / f"{mail}.eml"


def until(fact: Callable[[], object], run: Run) -> None:
    end = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < end, run.output
        time.sleep(0.05)


def is_gone(*pids: int) -> bool:
    return all(running_program(pid) is None for pid in pids)


def test_a_worker_that_dies_is_started_again_and_no_mail_is_lost(data_dir: Path) -> None:
    with running(data_dir) as run:
        killed = run.worker()
        until(ask_for_a_mail(run).exists, run)
        os.kill(killed, signal.SIGKILL)
        mail = ask_for_a_mail(run)
        run.until("The worker has ended by itself, by signal 9. Starting it again")
        assert run.status("/ready") == 200
        until(mail.exists, run)
        assert run.worker() != killed
        assert run.end(signal.SIGTERM) == 0
        assert "worker_stopped" in run.output


def test_a_worker_that_ends_again_and_again_is_started_once_a_second(data_dir: Path) -> None:
    with running(data_dir) as run:
        begun = time.monotonic()
        again = "Starting it again"
        while time.monotonic() - begun < 4:
            before = run.output.count(again)
            os.kill(run.worker(), signal.SIGKILL)
            until(lambda before=before: run.output.count(again) > before, run)
        assert 2 <= run.output.count(again) <= 5
        assert run.status("/ready") == 200


def test_both_end_when_the_launcher_is_killed(data_dir: Path) -> None:
    with running(data_dir) as run:
        run.until("worker_started")
        children = run.web_server(), run.worker()
        run.end(signal.SIGKILL)
        until(lambda: is_gone(*children), run)
        assert "worker_stopped" in run.output
    with running(data_dir) as run:
        assert run.status("/ready") == 200


def test_the_worker_ends_when_the_web_server_does(data_dir: Path) -> None:
    with running(data_dir) as run:
        run.until("worker_started")
        worker = run.worker()
        os.kill(run.web_server(), signal.SIGKILL)
        assert run.end() == 1
        assert is_gone(worker)
        assert "worker_stopped" in run.output


def test_a_worker_that_takes_its_time_is_waited_for_unless_asked_twice(data_dir: Path) -> None:
    with running(data_dir) as run:
        run.until("worker_started")
        web, worker = run.web_server(), run.worker()
        # It can't end now.
        os.kill(worker, signal.SIGSTOP)
        run.process.send_signal(signal.SIGINT)
        until(lambda: is_gone(web), run)
        next_run = Run(data_dir, port=free_port())
        try:
            next_run.until("Waiting for an earlier run to end")
            assert not is_gone(worker)
            assert run.end(signal.SIGINT) == 0
            assert is_gone(worker)
            next_run.until()
        finally:
            stop(next_run)


def test_the_data_folder_is_held_until_the_worker_of_a_killed_launcher_has_ended(
    data_dir: Path,
) -> None:
    with running(data_dir) as run:
        run.until("worker_started")
        web, worker = run.web_server(), run.worker()
        os.kill(worker, signal.SIGSTOP)
        run.end(signal.SIGKILL)
        until(lambda: is_gone(web), run)
        next_run = Run(data_dir, port=free_port())
        try:
            next_run.until("Waiting for an earlier run to end")
            os.kill(worker, signal.SIGCONT)
            next_run.until()
            assert is_gone(worker)
        finally:
            stop(next_run)
