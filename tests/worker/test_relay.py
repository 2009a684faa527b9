"""Events of the outbox become jobs: each exactly one, whoever takes them, and whoever dies."""

import threading
import time
from collections import Counter
from uuid import UUID

from sqlalchemy.orm import Session

from app.platform import outbox, tracing
from app.platform.db import transaction
from app.platform.ids import new
from app.worker.relay import BATCH, TASKS, relay
from tests.worker.office import Office


def test_an_event_becomes_one_job_that_holds_an_id_and_nothing_else(office: Office) -> None:
    (mail_id,) = office.ask()
    assert (relay(), relay()) == (1, 0)
    (job,) = office.jobs()
    assert (job.task_name, job.status, job.attempts) == ("mail.deliver", "todo", 0)
    assert job.args == {"subject_id": str(mail_id)}


def test_a_job_goes_on_in_the_trace_that_its_event_was_left_in(office: Office) -> None:
    sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    scope = tracing.begin(sent)
    assert scope is not None
    (followed,) = office.ask()
    scope.end("POST", failed=False, facts={})
    (other,) = office.ask()
    assert relay() == 2
    assert sorted((job.args for job in office.jobs()), key=len) == [
        {"subject_id": str(other)},
        {"subject_id": str(followed), "traceparent": sent},
    ]


def test_an_event_is_there_only_if_its_transaction_is(office: Office) -> None:
    try:
        with transaction() as session:
            outbox.emit(session, topic="mail.requested", subject_id=new())
            raise KeyError
    except KeyError:
        pass
    assert relay() == 0


def test_an_event_that_only_a_newer_worker_knows_stays(office: Office) -> None:
    with transaction() as session:
        outbox.emit(session, topic="tea.wanted", subject_id=new())
    office.ask()
    assert (relay(), relay()) == (1, 0)
    assert office.sql("SELECT topic FROM outbox_events") == [("tea.wanted",)]


def test_many_events_are_taken_a_batch_at_a_time(office: Office) -> None:
    asked = office.ask(BATCH + 1)
    assert (relay(), relay(), relay()) == (BATCH, 1, 0)
    assert sorted(UUID(job.args["subject_id"]) for job in office.jobs()) == sorted(asked)


def test_relays_at_once_take_each_event_once(office: Office) -> None:
    asked = office.ask(1_500)
    taken: list[int] = []

    def take_all() -> None:
        while found := relay():
            taken.append(found)

    threads = [threading.Thread(target=take_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while found := relay():
        taken.append(found)
    assert sum(taken) == len(asked)
    jobs = Counter(UUID(job.args["subject_id"]) for job in office.jobs())
    assert jobs == Counter(asked)


def test_a_relay_that_dies_before_its_commit_holds_nobody_up_and_loses_nothing(
    office: Office,
) -> None:
    first = office.ask(3)
    with office.engine.connect() as connection:
        dying = connection.execution_options(isolation_level="READ COMMITTED")
        dying.exec_driver_sql("SET application_name = 'dying'")
        with Session(dying) as session:
            assert len(outbox.take(session, topics=TASKS, most=BATCH)) == len(first)
            second = office.ask(2)
            begun = time.monotonic()
            assert relay() == len(second)
            assert time.monotonic() - begun < 1
            office.sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'dying' AND datname = current_database()"
            )
            session.invalidate()
    assert relay() == len(first)
    jobs = Counter(UUID(job.args["subject_id"]) for job in office.jobs())
    assert jobs == Counter(first + second)
