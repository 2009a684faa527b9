"""The launcher: everything up in one command, everything down with it, nothing lost in between."""

import os
import signal
import socket
from pathlib import Path

import psycopg2
import pytest

from app.launcher import preflight
from app.launcher.preflight import StartError, check_database
from app.platform import db
from app.platform.embedded_postgres import EmbeddedPostgres, urls
from app.platform.embedded_postgres.place import settle
from app.platform.embedded_postgres.process import listens
from tests.database import Databases
from tests.launcher.running import Run, running, stop
from tests.network import free_port


def users(data_dir: Path) -> list[str]:
    """Return the addresses of all users, as the owner of the tables sees them."""
    connection = psycopg2.connect(urls(data_dir)[1].replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT email FROM users ORDER BY email")
        found = [email for (email,) in cursor.fetchall()]
    connection.close()
    return found


def refused(data_dir: Path, **variables: str) -> Run:
    """Run a launcher that can't start, until it has given up."""
    run = Run(data_dir, port=int(variables.pop("port", free_port())), **variables)
    run.end()
    assert "Traceback" not in run.output
    return run


def test_one_command_starts_everything_and_says_what_to_do_next(data_dir: Path) -> None:
    with running(data_dir) as run:
        assert run.status("/ready") == 200
        for words in (
            "Creating the database",
            "Updating the database's tables",
            f"http://127.0.0.1:{run.port}/docs",
            str(data_dir / "postgres"),
            "flask users create-admin --email",
        ):
            assert words in run.output
        assert "Created administrator" in run.create_admin("ada@example.com")
        assert run.end(signal.SIGTERM) == 0
        assert run.output.endswith("Stopped\n")
        assert not listens(settle(data_dir))
    with running(data_dir) as run:
        assert "Creating" not in run.output
        assert "Updating" not in run.output
        assert users(data_dir) == ["ada@example.com"]
        assert run.end(signal.SIGINT) == 0


def test_committed_rows_survive_every_kill_and_the_next_start_works_at_once(
    data_dir: Path,
) -> None:
    with running(data_dir) as run:
        run.create_admin("ada@example.com")
        run.end(signal.SIGKILL)
    with running(data_dir) as run:
        assert "PostgreSQL is running already: using it" in run.output
        assert users(data_dir) == ["ada@example.com"]
        run.create_admin("bob@example.com")
        os.kill(run.postgres(), signal.SIGKILL)
        assert run.end() == 1
        assert "PostgreSQL has ended" in run.output
    with running(data_dir) as run:
        assert users(data_dir) == ["ada@example.com", "bob@example.com"]
        second = refused(data_dir)
        assert second.process.returncode == 1
        assert f"Bursar is running already at http://127.0.0.1:{run.port}" in second.output
        os.kill(run.web_server(), signal.SIGKILL)
        assert run.end() == 1
        assert "The web server has ended by itself, by signal 9." in run.output
        assert not listens(settle(data_dir))


def test_a_signal_during_the_start_stops_what_was_started(data_dir: Path) -> None:
    run = Run(data_dir, port=free_port())
    try:
        run.until("Updating the database's tables")
        assert run.end(signal.SIGTERM) in (0, 128 + signal.SIGTERM)
        assert "Traceback" not in run.output
        assert not listens(settle(data_dir))
    finally:
        stop(run)


def test_a_busy_port_is_said_before_a_database_is_made(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = refused(data_dir, port=str(port))
    assert run.process.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}: Address already in use" in run.output
    assert not (data_dir / "postgres").exists()


def test_an_address_of_another_machine_is_said(data_dir: Path) -> None:
    run = refused(data_dir, APP_SERVER_HOST="203.0.113.7")
    assert run.process.returncode == 1
    assert "Correct APP_SERVER_HOST." in run.output


def test_an_unreachable_database_is_said_and_the_embedded_one_left_alone(data_dir: Path) -> None:
    url = f"postgresql://me:hidden@127.0.0.1:{free_port()}/bursar"
    run = refused(data_dir, APP_DATABASE_URL=url)
    assert run.process.returncode == 1
    assert "The database of APP_DATABASE_URL can't be used" in run.output
    assert "Connection refused" in run.output
    assert "hidden" not in run.output
    assert not (data_dir / "postgres").exists()


def test_a_url_that_the_client_library_refuses_is_not_shown(data_dir: Path) -> None:
    with pytest.raises(StartError) as refusal:
        check_database("postgresql+psycopg2://me@/b?hidden=1", variable="APP_DATABASE_URL")
    assert "hidden" not in str(refusal.value)


def test_wrong_settings_exit_with_the_code_of_a_configuration_error(data_dir: Path) -> None:
    run = refused(data_dir, APP_SERVER_WORKERS="many", APP_LOG_LEVEL="loud")
    assert run.process.returncode == 78
    assert "APP_SERVER_WORKERS" in run.output
    assert "APP_LOG_LEVEL" in run.output


def test_an_unwritable_folder_is_named(data_dir: Path) -> None:
    data_dir.write_text("a file is in the way")
    run = refused(data_dir)
    assert run.process.returncode == 78
    assert str(data_dir) in run.output


def test_a_database_that_no_longer_serves_this_version_is_refused(data_dir: Path) -> None:
    server = EmbeddedPostgres.start(data_dir, say=lambda sentence: None)
    try:
        connection = psycopg2.connect(urls(data_dir)[1].replace("+psycopg2", ""))
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE alembic_version AS SELECT '9999_later' AS version_num")
            cursor.execute("COMMENT ON TABLE alembic_version IS '9998_before'")
        connection.close()
        run = refused(data_dir)
        assert run.process.returncode == 1
        assert "revision 9999_later, which this version doesn't know" in run.output
        # This process uses the server still, so the launcher has left it running.
        assert server.is_running()
    finally:
        server.stop(immediate=True)


def test_another_database_is_migrated_and_used(data_dir: Path, databases: Databases) -> None:
    with databases.unmigrated() as settings:
        variables = {
            "APP_DATABASE_URL": settings.database_url,
            "APP_DATABASE_MIGRATION_URL": settings.database_migration_url,
        }
        with running(data_dir, **variables) as run:
            assert run.status("/ready") == 200
            assert "set by APP_DATABASE_URL" in run.output
            assert not (data_dir / "postgres").exists()


def test_a_database_of_a_newer_version_that_still_serves_this_one_is_used(
    data_dir: Path, databases: Databases
) -> None:
    with databases.fresh() as settings:
        with db.one_connection(settings, migration=True) as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_later'")
        variables = {
            "APP_DATABASE_URL": settings.database_url,
            "APP_DATABASE_MIGRATION_URL": settings.database_migration_url,
        }
        with running(data_dir, **variables) as run:
            assert run.status("/ready") == 200
            assert "A newer version has migrated the database, to 9999_later" in run.output


def test_a_server_that_is_too_old_is_refused(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "OLDEST_SERVER", 990000)
    with databases.fresh() as settings, pytest.raises(StartError, match="15 or newer is needed"):
        check_database(settings.database_url, variable="APP_DATABASE_URL")
