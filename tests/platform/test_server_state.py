"""A server that takes no writes, or without our time limits, serves nobody."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import make_url, text

from app.platform import db, server_state, startup
from app.platform.errors import Unavailable
from app.platform.settings import PROJECT_ROOT, Settings, SettingsError
from tests.database import Databases, pool_on
from tests.platform.test_health import client

LIMIT = re.compile(r"ALTER ROLE bursar_app IN DATABASE bursar SET (\w+) = '([^']+)';")


@pytest.fixture
def pooled(databases: Databases) -> Iterator[Settings]:
    """A migrated database, reached as if a pooler stood in between."""
    with databases.fresh(APP_DATABASE_POOLER="true") as fresh:
        yield fresh


def give_limits(databases: Databases, settings: Settings) -> None:
    """Do what deploy/roles.sql does, to the role and the database of the tests."""
    name = make_url(settings.database_url).database or ""
    for limit, value in LIMIT.findall((PROJECT_ROOT / "deploy/roles.sql").read_text()):
        change = f"ALTER ROLE {{}} IN DATABASE {{}} SET {limit} = '{value}'"
        databases.execute(change, databases.application, name)


def standby(settings: Settings) -> Settings:
    """Return settings whose connections find a server that takes no writes."""
    url = make_url(settings.database_url).update_query_dict(
        {"options": "-c default_transaction_read_only=on"}
    )
    return replace(settings, database_url=url.render_as_string(hide_password=False))


def test_the_role_brings_the_same_limits_as_a_connection() -> None:
    given = LIMIT.findall((PROJECT_ROOT / "deploy/roles.sql").read_text())
    assert dict(given) == server_state.REQUIRED


def test_a_connection_that_brings_its_limits_falls_short_of_nothing(settings: Settings) -> None:
    with db.one_connection(settings) as connection:
        assert server_state.shortcoming(connection) is None
    server_state.check(settings)


def test_behind_a_pooler_the_service_starts_once_its_role_has_the_limits(
    databases: Databases, pooled: Settings
) -> None:
    with pytest.raises(SettingsError, match=r"without .*statement_timeout.* deploy/roles\.sql"):
        startup.connections_per_worker(pooled)
    give_limits(databases, pooled)
    assert startup.connections_per_worker(pooled)
    # How many connections the server has is the pooler's business.
    many = replace(pooled, env="production", database_max_connections=1000)
    assert startup.connections_per_worker(many) == 1000


def test_a_service_without_its_limits_is_not_ready(
    databases: Databases, pooled: Settings, settings: Settings, pool: None
) -> None:
    give_limits(databases, pooled)
    name = make_url(pooled.database_url).database or ""
    change = "ALTER ROLE {} IN DATABASE {} RESET lock_timeout"
    databases.execute(change, databases.application, name)
    with pool_on(pooled, instead_of=settings):
        answer = client(pooled).get("/ready")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "without lock_timeout")


def test_a_server_that_takes_no_writes_is_not_ready_and_keeps_nobody_from_starting(
    settings: Settings, pool: None
) -> None:
    with pool_on(standby(settings), instead_of=settings):
        answer = client(settings).get("/ready")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "read-only")
    # It may be promoted at any moment.
    server_state.check(standby(settings))


def test_a_database_that_is_away_keeps_nobody_from_starting(settings: Settings) -> None:
    server_state.check(replace(settings, database_url="postgresql+psycopg2://x@127.0.0.1:1/x"))


def test_a_refused_write_replaces_the_connections_that_lead_to_a_standby(
    settings: Settings, pool: None
) -> None:
    def pid() -> int:
        return int(db.first_row("SELECT pg_backend_pid() AS pid", {}).pid)

    with pool_on(standby(settings), instead_of=settings, size=1):
        before = pid()
        assert pid() == before
        with pytest.raises(Unavailable), db.transaction() as session:
            session.execute(text("DELETE FROM rate_limits"))
        assert pid() != before
