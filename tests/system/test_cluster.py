"""Past one machine: each part is killed while credits move, and nothing acknowledged is lost."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from alembic.util import CommandError
from redis import Redis

from app.platform import db, migrations, startup
from app.platform.settings import EXIT_CODE, Settings, SettingsError
from app.platform.settings.addresses import database_url
from app.upkeep import server as examining
from tests.commands import command, flask
from tests.database import pool_on
from tests.platform.test_health import client
from tests.server.serving import wait_until
from tests.system.cluster import Cluster, cluster
from tests.system.external_postgres import PASSWORDS, url_of
from tests.worker.working import Worker


@pytest.fixture(scope="module")
def shape() -> Iterator[Cluster]:
    """All of it, for the tests of this module in their order: what one kills stays dead."""
    with cluster() as started:
        yield started


def books_are_right(settings: Settings) -> None:
    with pool_on(settings, size=2):
        ended = command(settings, "credits", "verify")
    assert (ended.returncode, ended.stdout) == (0, "The books are right: every check passed.\n")


def has_sent_mails(worker: Worker) -> bool:
    return "mail.deliver" in {line["task"] for line in worker.lines("job_done")}


def test_a_pooler_is_noticed_before_anything_is_served(shape: Cluster) -> None:
    unaware = replace(shape.pooled, database_pooler=False)
    with pytest.raises(SettingsError, match="set APP_DATABASE_POOLER=true"):
        startup.connections_per_worker(unaware)
    refused = flask(unaware, "worker")
    assert refused.returncode == EXIT_CODE
    assert "set APP_DATABASE_POOLER=true" in refused.stderr
    alone = replace(shape.pooled, database_migration_url=shape.pooled.database_url)
    with pytest.raises(CommandError, match="Migrations go around the pooler"):
        migrations.upgrade(alone)


def test_a_server_killed_behind_the_balancer_loses_nothing(shape: Cluster) -> None:
    with shape.busy() as clients:
        shape.until_made(clients, 80)
        os.killpg(shape.servers[0].process.pid, signal.SIGKILL)
        shape.until_made(clients, 120, after=0.5)
    books_are_right(shape.pooled)
    # Everybody was counted on the way, by all servers together.
    with Redis.from_url(shape.redis.url) as redis:
        assert redis.keys("bursar:limit:*")


def test_a_worker_killed_beside_another_leaves_no_mail_behind(shape: Cluster) -> None:
    with shape.busy() as clients:
        # One listens for jobs, and the one behind the pooler asks for them again and again.
        for worker, other in (shape.workers, reversed(shape.workers)):
            other.process.send_signal(signal.SIGSTOP)
            shape.sign_up(2)
            wait_until(partial(has_sent_mails, worker), seconds=60)
            other.process.send_signal(signal.SIGCONT)
        # By now it would have prepared statements that its next connection doesn't know.
        assert not shape.workers[0].lines("worker_database_away")
        shape.sign_up(4)
        shape.workers[0].process.kill()
        shape.sign_up(4)
        # What it was doing is noticed after 30 s, and looked for every 20.
        wait_until(lambda: shape.mails() == {"sent"}, seconds=90)
        shape.until_made(clients, 40)
    books_are_right(shape.pooled)


def test_a_pooler_killed_and_started_again_loses_nothing(shape: Cluster) -> None:
    with shape.busy() as clients:
        shape.until_made(clients, 80)
        shape.pooler.end()
        shape.pooler.start(shape.postgres.primary.port)
        shape.until_made(clients, 120, after=0.5)
    books_are_right(shape.pooled)


def test_without_redis_everything_goes_on(shape: Cluster) -> None:
    with shape.busy() as clients:
        shape.until_made(clients, 20)
        shape.redis.end()
        shape.until_made(clients, 80, after=0.5)
    assert any(server.lines("rate_limit_storage_away") for server in shape.servers[1:])
    books_are_right(shape.pooled)


def test_a_standby_is_not_ready_and_nothing_is_acknowledged_before_it_has_it(
    shape: Cluster,
) -> None:
    standby = url_of("bursar_app", PASSWORDS["BURSAR_APP_PASSWORD"], shape.postgres.replica.port)
    settings = replace(shape.direct, database_url=database_url(standby))
    with pool_on(settings, size=2):
        ready = client(settings).get("/ready")
    assert (ready.status_code, ready.json["checks"]["database"]) == (503, "read-only")
    with db.one_connection(settings) as connection:
        told = [finding.sentence for finding in examining.durability(connection, settings)]
    assert any("leads to a standby" in sentence for sentence in told)

    with shape.busy() as clients:
        shape.until_made(clients, 20)
        with shape.postgres.replica_stopped():
            time.sleep(1)
            before = shape.made(clients)
            time.sleep(1)
            assert shape.made(clients) == before
        shape.until_made(clients, before + 20)
    books_are_right(shape.pooled)


def test_a_primary_killed_under_load_is_replaced_and_nothing_is_lost(shape: Cluster) -> None:
    with shape.busy() as clients:
        shape.until_made(clients, 80)
        shape.postgres.fail_over()
        promoted = time.monotonic()
        shape.pooler.lead_to(shape.postgres.replica.port)
        shape.until_made(clients, 120, after=0.5)
        first = min(one.at for each in clients for one in each.acknowledged if one.at > promoted)
    print(f"the first answer came {first - promoted:.1f} s after the promotion")
    assert first - promoted < 15
    for server in shape.servers[1:]:
        wait_until(lambda server=server: server.get("/ready").status == 200)
    # The worker that is left has found the new primary as well.
    shape.sign_up(2)
    wait_until(lambda: shape.mails() == {"sent"}, seconds=90)
    ended = flask(shape.direct, "credits", "verify")
    assert (ended.returncode, ended.stdout) == (0, "The books are right: every check passed.\n")
