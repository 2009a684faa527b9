"""The doctor finds nothing where all is well, and each thing that isn't, on a real server."""

import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from alembic import command as alembic

from app.platform import db, migrations
from app.platform.settings import Settings
from app.upkeep import server as examining
from app.worker import running
from tests.commands import flask
from tests.database import Databases
from tests.upkeep.installing import Find, Installation

Command = Callable[..., CompletedProcess[str]]
PARTS = (
    "settings", "connections", "database", "roles", "limits", "migrations", "clock", "keys", "mail",
)  # fmt: skip


@pytest.fixture
def production(installed: Installation) -> Settings:
    """The same in production, behind a proxy with TLS, with metrics and without a mail server."""
    return replace(
        installed.settings,
        env="production",
        public_url="https://bursar.acme.org",
        server_trusted_proxies=1,
        metrics_bind="127.0.0.1:9100",
        rate_limit_enabled=True,
        log_level="error",
    )


def test_an_installation_without_a_fault_is_fine(installed: Installation) -> None:
    done = flask(installed.settings, "doctor")
    assert done.stdout.splitlines() == [f"{part}: fine" for part in PARTS], done.stderr
    assert done.returncode == 0


def test_a_problem_is_an_exit_code_and_a_warning_is_none(
    installed: Installation, command: Command
) -> None:
    settings = installed.settings
    warned = command(replace(settings, database_url=settings.database_migration_url), "doctor")
    assert warned.returncode == 0
    assert "roles: warning: " in warned.stdout
    crowded = command(settings, "doctor", "--machines", "8")
    assert crowded.returncode == 0
    assert "limits: warning: 8 times 2 web workers" in crowded.stdout
    broken = command(replace(settings, mail_url="smtp://127.0.0.1:1"), "doctor")
    assert broken.returncode == 1
    assert broken.stdout.splitlines()[0] == "settings: fine"
    assert "mail: PROBLEM: " in broken.stdout


def test_one_in_production_is_fine_and_told_that_mails_wait(
    production: Settings, find: Find
) -> None:
    assert find(production) == [
        "mail: warning: APP_MAIL_URL isn't set: mails wait until it is, and users never get them."
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"public_url": "http://bursar.acme.org"}, "settings: warning: APP_PUBLIC_URL begins with"),
        ({"server_trusted_proxies": 0}, "APP_SERVER_TRUSTED_PROXIES is 0"),
        ({"rate_limit_enabled": False}, "APP_RATE_LIMIT_ENABLED is false"),
        ({"metrics_bind": None}, "Nobody can read /metrics"),
        ({"data_dir": Path("/proc/nothing")}, "settings: PROBLEM: Nothing can be written to"),
    ],
)
def test_settings_that_are_mostly_a_mistake_are_found(
    production: Settings, find: Find, changes: dict[str, Any], expected: str
) -> None:
    (found, _mail) = find(replace(production, **changes))
    assert expected in found


def test_a_database_that_is_away_is_named_and_the_rest_examined(
    installed: Installation, find: Find
) -> None:
    nowhere = "postgresql+psycopg2://nobody:nothing@127.0.0.1:1/nothing"
    away = replace(installed.settings, database_url=nowhere, database_migration_url=nowhere)
    first, second = find(away)
    assert first.startswith("connections: PROBLEM: The database of APP_DATABASE_URL can't be reach")
    assert "APP_DATABASE_MIGRATION_URL" in second
    assert "nothing@" not in first + second


def test_two_urls_must_lead_to_one_database(
    installed: Installation, databases: Databases, find: Find
) -> None:
    with databases.fresh() as other:
        found = find(
            replace(installed.settings, database_migration_url=other.database_migration_url)
        )
    assert any("lead to different databases" in line for line in found)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_may_lose_what_it_acknowledged_is_a_problem_in_production(
    installed: Installation, production: Settings, find: Find, name: str
) -> None:
    reload = "SELECT pg_reload_conf()"
    with installed.changed(f"ALTER SYSTEM SET {name} = off", f"ALTER SYSTEM RESET {name}"):
        installed.execute(reload)
        try:
            (found, _mail) = eventually(lambda: find(production), number=2)
            assert found.startswith(f"database: PROBLEM: {name} is off: a crash")
            (found,) = find(installed.settings)
            assert found.startswith(f"database: warning: {name} is off: a crash")
        finally:
            installed.execute(f"ALTER SYSTEM RESET {name}", reload)
    assert eventually(lambda: find(installed.settings), number=0) == []


def eventually(look: Callable[[], list[str]], *, number: int) -> list[str]:
    """Look until so much is found: the server reads its configuration a little later."""
    for _ in range(20):
        found = look()
        if len(found) == number:
            break
        time.sleep(0.1)
    return found


def test_a_server_that_is_too_old_is_a_problem(
    installed: Installation, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "OLDEST", 990_000)
    (found,) = find(installed.settings)
    assert found.startswith("database: PROBLEM: PostgreSQL 15 or newer is needed, and this is 18")


def test_another_encoding_is_a_problem(installed: Installation, find: Find) -> None:
    create = "CREATE DATABASE latin OWNER bursar_owner ENCODING 'LATIN1' LOCALE 'C' TEMPLATE"
    with installed.changed(f"{create} template0", "DROP DATABASE latin WITH (FORCE)"):
        latin = {
            name: getattr(installed.settings, name).replace("/bursar?", "/latin?")
            for name in ("database_url", "database_migration_url")
        }
        found = find(replace(installed.settings, **latin))
    assert any("The database's encoding is LATIN1" in line for line in found)


def test_something_in_between_that_drops_time_limits_is_a_problem(
    installed: Installation, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pooler does that takes no options."""
    monkeypatch.setattr(db, "TIMEOUTS", {"lock_timeout": "3s"})
    (found,) = find(installed.settings)
    assert found.startswith("database: PROBLEM: Connections don't have the service's time limits")
    assert "statement_timeout is 0" in found


def test_a_superuser_as_the_services_role_is_a_problem(
    installed: Installation, production: Settings, find: Find
) -> None:
    with installed.changed("ALTER ROLE bursar_app SUPERUSER", "ALTER ROLE bursar_app NOSUPERUSER"):
        (found, _mail) = find(production)
    assert found.startswith("roles: PROBLEM: The service connects as bursar_app, a superuser")


def test_the_owner_as_the_services_role_is_warned_of(installed: Installation, find: Find) -> None:
    settings = installed.settings
    (found,) = find(replace(settings, database_url=settings.database_migration_url))
    assert found.startswith("roles: warning: The service connects as bursar_owner, which owns the")


def test_a_role_that_may_change_the_books_is_a_problem(installed: Installation, find: Find) -> None:
    right = "DELETE ON entries"
    with installed.changed(f"GRANT {right} TO bursar_app", f"REVOKE {right} FROM bursar_app"):
        (found,) = find(installed.settings)
    assert found.startswith("roles: PROBLEM: bursar_app may change what is in entries")


def test_a_role_that_may_create_tables_is_warned_of(installed: Installation, find: Find) -> None:
    right = "CREATE ON SCHEMA public"
    with installed.changed(f"GRANT {right} TO bursar_app", f"REVOKE {right} FROM bursar_app"):
        (found,) = find(installed.settings)
    assert found.startswith("roles: warning: bursar_app may create tables and functions")


def test_more_connections_than_the_server_allows_are_a_problem_in_production(
    installed: Installation, production: Settings, find: Find
) -> None:
    assert find(production, machines=4)[:-1] == []
    (found, _mail) = find(production, machines=8)
    assert found.startswith("limits: PROBLEM: 8 times 2 web workers with 5 connections each")
    assert "make 160; max_connections of the server allows" in found
    (found,) = find(replace(installed.settings, database_max_connections=100))
    assert found.startswith("limits: warning: 1 times 2 web workers with 100 connections each")
    assert "set APP_DATABASE_MAX_CONNECTIONS=43, or raise it" in found


def test_behind_a_pooler_its_own_limits_count(production: Settings, find: Find) -> None:
    # Connections here bring the limits themselves, which a pooler would refuse.
    (dropped, _mail) = find(replace(production, database_pooler=True), machines=50)
    assert dropped.startswith("database: PROBLEM: Connections don't have the service's time limits")


@pytest.mark.parametrize("what", ["ROLE bursar_app", "DATABASE bursar"])
def test_the_limit_of_the_role_and_of_the_database_count(
    installed: Installation, find: Find, what: str
) -> None:
    limit = f"ALTER {what} CONNECTION LIMIT"
    with installed.changed(f"{limit} 15", f"{limit} -1"):
        (found,) = find(installed.settings)
    assert f"the connection limit of the {what.split()[0].lower()} allows 15" in found


def test_a_worker_opens_as_many_connections_as_the_doctor_counts() -> None:
    # Its pool, with one for the relay, and those of its library, with the one that listens.
    sum_of_both = running.CONCURRENCY + 1 + running.CONNECTIONS + 1
    assert sum_of_both == examining.WORKER_CONNECTIONS


def test_tables_that_are_behind_or_ahead_are_problems(
    installed: Installation, find: Find, databases: Databases
) -> None:
    with databases.unmigrated() as empty:
        (none,) = [line for line in find(empty) if line.startswith("migrations")]
        assert none.startswith("migrations: PROBLEM: The tables are at revision none, and this")
        alembic.upgrade(migrations.configuration(empty), migrations.LEAST_REVISION)
        due = [line for line in find(empty) if line.startswith("migrations")]
        assert bool(due) == (migrations.head_revision() != migrations.LEAST_REVISION)
        assert all("is due: flask db upgrade" in line for line in due)
    head, name = migrations.head_revision(), "COMMENT ON TABLE alembic_version IS"
    with ExitStack() as changed:
        later = "UPDATE alembic_version SET version_num ="
        changed.enter_context(installed.changed(f"{later} '9999_later'", f"{later} '{head}'"))
        assert find(installed.settings) == []
        changed.enter_context(installed.changed(f"{name} '9999_later'", f"{name} NULL"))
        (found,) = find(installed.settings)
    assert found.startswith("migrations: PROBLEM: A newer version has migrated the tables to revis")


def test_an_index_that_was_never_finished_is_warned_of(installed: Installation, find: Find) -> None:
    index = "CREATE INDEX ix_unfinished ON users (name)"
    mark = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_unfinished'::regclass"
    with installed.changed(index, "DROP INDEX ix_unfinished"):
        installed.execute(mark)
        (found,) = find(installed.settings)
    assert found.startswith("migrations: warning: The index ix_unfinished was never finished")


def test_settings_that_can_not_be_used_are_all_said(installed: Installation) -> None:
    done = flask(replace(installed.settings, database_url="mysql://there"), "doctor")
    assert done.returncode == 78
    assert "APP_DATABASE_URL must begin with postgresql://" in done.stderr
    assert b64encode(installed.settings.auth_master_keys[0][1]).decode() not in done.stderr
