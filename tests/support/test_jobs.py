"""The jobs behind it all, done by a real worker on a database of its own."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.platform import clock
from app.platform.db import reading, transaction
from app.platform.settings import Settings
from app.support.values import UNDOABLE
from app.worker import tasks
from tests.client import Client
from tests.people import TestUser
from tests.support.leaving import ME, leave
from tests.worker.working import wait_until, working

MakeUser = Callable[..., TestUser]
# As its periodic deferrer leaves one, once an hour.
DEFER = text(
    "SELECT procrastinate_defer_jobs_v1(array_agg(ROW('default', :name, 0, NULL, NULL,"
    " jsonb_build_object('timestamp', 1), NULL)::procrastinate_job_to_defer_v1))"
)


def change(statement: str, **parameters: Any) -> None:
    with transaction() as session:
        session.execute(text(statement), parameters)


def look(statement: str) -> list[Any]:
    with reading() as connection:
        return list(connection.scalars(text(statement)))


@pytest.mark.usefixtures("traced")
def test_an_export_is_made_by_a_worker_and_its_job_carries_nothing_but_its_id(
    empty_database: Settings, client: Client, make_user: MakeUser, tmp_path: Path
) -> None:
    user = make_user()
    asked = client.post(f"{ME}/export", token=user.token)
    url = f"{ME}/export/{asked.json['id']}"
    assert client.get(url, token=user.token).status_code == 202
    with working(empty_database, tmp_path) as worker:
        wait_until(lambda: client.get(url, token=user.token).status_code == 200, worker)
        text_of_log = worker.text()
    assert user.email not in text_of_log
    assert str(user.id) not in text_of_log


@pytest.mark.parametrize("name", [tasks.ERASE, tasks.RETAIN, tasks.FORGET])
def test_what_has_to_be_done_again_and_again_is_due_every_hour(
    empty_database: Settings, name: str
) -> None:
    app = tasks.make_app(empty_database)
    assert app.tasks[name].queueing_lock == name
    (cron,) = [
        periodic.cron
        for periodic in app.periodic_registry.periodic_tasks.values()
        if periodic.task.name == name
    ]
    minute, *rest = cron.split()
    assert (minute.isdigit(), rest) == (True, ["*"] * 4)


@pytest.mark.usefixtures("traced")
def test_a_worker_erases_retains_and_forgets(
    empty_database: Settings, client: Client, make_user: MakeUser, tmp_path: Path
) -> None:
    user, stays = make_user(), make_user()
    for one in (user, stays):
        assert leave(client, one).status_code == 202
    change(
        "UPDATE users SET deleting_since = :since WHERE id = :id",
        since=clock.now() - UNDOABLE,
        id=user.id,
    )
    # Whoever could not be told is not erased.
    change("UPDATE mails SET state = 'sent', settled_at = :at", at=clock.now())
    change(
        "INSERT INTO exports (id, user_id, created_at, expires_at) VALUES (:id, :id, :at, :at)",
        id=stays.id,
        at=clock.now() - timedelta(days=8),
    )
    for days in (89, 91):
        change(
            "WITH job AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
            " VALUES ('default', :name, 'failed') RETURNING id)"
            " INSERT INTO procrastinate_events (job_id, type, at)"
            " SELECT id, 'failed', :at FROM job",
            name=f"failed {days} days ago",
            at=clock.now() - timedelta(days=days),
        )
    with transaction() as session:
        for name in (tasks.ERASE, tasks.RETAIN, tasks.FORGET):
            session.execute(DEFER, {"name": name})
    with working(empty_database, tmp_path) as worker:
        wait_until(lambda: len({one["task"] for one in worker.lines("job_done")}) >= 3, worker)
        assert worker.end()[0] == 0
        done = {line["task"] for line in worker.lines("job_done")}
        (said,) = [line for line in worker.lines("retention_done") if line.get("exports")]
    assert done >= {tasks.ERASE, tasks.RETAIN, tasks.FORGET}
    assert said["exports"] == 1
    assert look("SELECT status FROM users ORDER BY status") == ["deleting", "erased"]
    assert look("SELECT id FROM exports") == []
    failed = "SELECT task_name FROM procrastinate_jobs WHERE status = 'failed'"
    assert look(failed) == ["failed 89 days ago"]
