"""A backup is whole, private and good, and a drill says so, or says what is wrong."""

import os
import re
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from alembic import command as alembic
from flask import Flask
from sqlalchemy import make_url

from app.keys import rotation
from app.platform import db, migrations
from app.platform.settings import Settings
from app.upkeep import backup, programs
from app.upkeep import drill as drills
from app.upkeep.backup import BackupFailed
from app.upkeep.programs import ProgramFailed
from tests.banking import make_bank
from tests.commands import flask
from tests.database import Databases, pool_on, variables

Sql = Callable[..., list[Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]
Drill = Callable[[Settings, Path], tuple[list[str], str]]
GOOD = "The backup is good: it was restored, and its books are right."
PATIENCE = 20.0


@pytest.fixture(scope="module")
def bank(databases: Databases, settings: Settings, app: Flask) -> Iterator[Settings]:
    """A database with three users, their credits and a signing key."""
    with databases.fresh() as fresh:
        with pool_on(fresh, instead_of=settings):
            make_bank(3, credits=100)
            rotation.advance()
        yield fresh


@pytest.fixture(scope="module")
def made(bank: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it."""
    file = tmp_path_factory.mktemp("backups") / "bursar.dump"
    backup.make(bank, file)
    return file


@pytest.fixture
def drill(databases: Databases, command: Command) -> Drill:
    """A function that does a drill on the tests' server; returns what is wrong, and what it did."""

    def run(database: Settings, file: Path) -> tuple[list[str], str]:
        done = command(database, "restore-drill", str(file), "--server", databases.superuser_url)
        found = done.stdout.splitlines()
        if done.returncode == 0:
            assert found.pop() == GOOD
        return found, done.stderr

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def as_owner(settings: Settings, *statements: str) -> None:
    with db.one_connection(settings, migration=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_backup_is_restored_on_a_server_of_its_own_and_found_good(
    bank: Settings, tmp_path: Path
) -> None:
    """As an operator does it, with nothing but the two commands."""
    file = tmp_path / "bursar.dump"
    done = flask(bank, "backup", str(file))
    assert done.returncode == 0, done.stderr
    said = re.fullmatch(rf"{file}: (\d+) bytes, revision (\S+), in [\d.]+ s\.\n", done.stdout)
    assert said is not None
    assert said.groups() == (str(file.stat().st_size), migrations.head_revision())
    done = flask(bank, "restore-drill", str(file))
    assert (done.returncode, done.stdout) == (0, f"{GOOD}\n"), done.stderr
    assert "It holds 3 users and 3 transfers; the last event was at 20" in done.stderr


def test_a_backup_is_private_and_alone_in_its_folder(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert names(made.parent) == [made.name]


def test_a_drill_leaves_no_database_behind(
    bank: Settings, made: Path, drill: Drill, sql: Sql
) -> None:
    assert drill(bank, made)[0] == []
    assert sql("SELECT datname FROM pg_database WHERE starts_with(datname, 'bursar_drill')") == []


def test_a_drill_finds_books_that_are_wrong_and_master_keys_that_do_not_fit(
    databases: Databases, settings: Settings, drill: Drill, tmp_path: Path
) -> None:
    with databases.fresh() as fresh:
        with pool_on(fresh, instead_of=settings):
            make_bank(1, credits=100)
            rotation.advance()
        as_owner(
            fresh,
            "ALTER TABLE accounts DISABLE TRIGGER USER",
            "UPDATE accounts SET balance = 99 WHERE kind = 'user'",
        )
        backup.make(fresh, tmp_path / "wrong.dump")
        others = replace(fresh, auth_master_keys=((1, secrets.token_bytes(32)),))
        keys, *books = drill(others, tmp_path / "wrong.dump")[0]
    assert keys.startswith("APP_AUTH_MASTER_KEYS doesn't open the signing key")
    assert any("99" in difference for difference in books)


def test_a_drill_migrates_a_backup_of_an_older_version(
    databases: Databases, drill: Drill, tmp_path: Path
) -> None:
    with databases.unmigrated() as old:
        alembic.upgrade(migrations.configuration(old), "0020_ledger_valid")
        backup.make(old, tmp_path / "old.dump")
        found, did = drill(old, tmp_path / "old.dump")
    assert found == []
    assert "Migrating it, from 0020_ledger_valid" in did


def test_a_drill_refuses_a_backup_of_a_version_that_is_too_new(
    databases: Databases, drill: Drill, tmp_path: Path
) -> None:
    with databases.fresh() as newer:
        as_owner(
            newer,
            "UPDATE alembic_version SET version_num = '9999_later'",
            "COMMENT ON TABLE alembic_version IS '9999_later'",
        )
        backup.make(newer, tmp_path / "newer.dump")
        (problem,), _ = drill(newer, tmp_path / "newer.dump")
    assert problem.startswith("It is of a newer version, at revision 9999_later")


@pytest.mark.parametrize("missing", [1.0, 0.5, 0.001])
def test_a_drill_refuses_a_file_that_is_not_whole(
    bank: Settings,
    made: Path,
    databases: Databases,
    command: Command,
    tmp_path: Path,
    missing: float,
) -> None:
    whole = made.read_bytes()
    broken = tmp_path / "broken.dump"
    broken.write_bytes(whole[: int(len(whole) * (1 - missing))] or b"no backup")
    done = command(bank, "restore-drill", str(broken), "--server", databases.superuser_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: pg_restore failed: " in done.stderr


def test_a_server_for_the_drill_that_is_none_is_refused_with_a_sentence(
    bank: Settings, made: Path, command: Command
) -> None:
    for server, complaint in (
        ("host=somewhere", "--server must begin with postgresql://"),
        ("postgresql://nobody@127.0.0.1:1/nothing", "The server of the drill: connection to"),
    ):
        done = command(bank, "restore-drill", str(made), "--server", server)
        assert done.returncode != 0
        assert complaint in done.stderr


def test_a_drill_without_a_server_of_its_own_asks_for_one(
    bank: Settings, made: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the image, which brings no PostgreSQL."""
    monkeypatch.setattr(drills, "wheel", lambda: None)
    done = command(bank, "restore-drill", str(made))
    assert done.returncode == 1
    assert "Error: There is no PostgreSQL for the drill: name one with --server" in done.stderr


def test_what_is_in_the_way_of_a_backup_is_said_and_nothing_is_left_behind(
    bank: Settings, made: Path, databases: Databases, tmp_path: Path
) -> None:
    nowhere = "postgresql+psycopg2://nobody:nothing@127.0.0.1:1/nothing"
    before = made.read_bytes()
    with databases.unmigrated() as empty:
        for settings, file, complaint in (
            (bank, made, "is there already"),
            (bank, tmp_path / "missing" / "bursar.dump", "No such file or directory"),
            (empty, tmp_path / "bursar.dump", "The database has no tables yet"),
            (replace(bank, database_migration_url=nowhere), tmp_path / "bursar.dump", "reached"),
        ):
            with pytest.raises(BackupFailed, match=complaint):
                backup.make(settings, file)
    assert names(tmp_path) == []
    assert made.read_bytes() == before


def test_a_backup_that_pg_restore_can_not_read_is_none(
    bank: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that wrote something else, here by a pg_dump that writes nothing."""
    fake = tmp_path / "bin" / "pg_dump"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 99.1'\n")
    fake.chmod(0o755)
    real = programs.find("pg_restore", least=15)
    (fake.parent / "pg_restore").symlink_to(real)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(BackupFailed, match="pg_restore failed"):
        backup.make(bank, tmp_path / "bursar.dump")
    assert names(tmp_path) == ["bin"]


def test_a_killed_backup_takes_its_program_along_and_never_showed_the_password(
    bank: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "bursar.dump"
    with db.one_connection(bank, migration=True) as migrating:
        migrating.exec_driver_sql("BEGIN")
        migrating.exec_driver_sql("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        backing = subprocess.Popen(
            [sys.executable, "-m", "flask", "backup", str(file)],
            cwd=migrations.DIRECTORY.parent,
            env=os.environ | variables(bank),
            stderr=subprocess.DEVNULL,
        )
        try:
            dumping = waiting_child(backing.pid)
            (password,) = {make_url(bank.database_migration_url).password}
            assert password
            assert password not in "\n".join(dumping.cmdline())
            # It inherits the variables of the service, and gets no other one.
            assert "PGPASSWORD" not in dumping.environ()
            (part,) = names(tmp_path)
            assert part.startswith(".bursar.dump.")
        finally:
            backing.kill()
            backing.wait()
        dumping.wait(PATIENCE)
    assert not file.exists()


def waiting_child(pid: int) -> psutil.Process:
    """Wait for the pg_dump of a backup, and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for child in psutil.Process(pid).children(recursive=True):
            if "--format=custom" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError("no pg_dump was started")


def test_a_password_may_hold_whatever_it_likes(databases: Databases, bank: Settings) -> None:
    role, password = f"{databases.prefix}_odd", r"co:lon\back'quote %40"
    quoted = password.replace("'", "''")
    databases.execute(f"CREATE ROLE {{}} LOGIN PASSWORD '{quoted}'", role)
    try:
        url = make_url(bank.database_url).set(username=role, password=password, database="postgres")
        psql = programs.find("psql", least=15)
        programs.run(psql, "-c", "SELECT 1", url=url.render_as_string(hide_password=False))
    finally:
        databases.execute("DROP ROLE {}", role)


def test_programs_that_are_too_old_or_missing_are_named() -> None:
    with pytest.raises(ProgramFailed, match=r"pg_dump of PostgreSQL 99 or newer is needed, and"):
        programs.find("pg_dump", least=99)
    with pytest.raises(ProgramFailed, match=r"postgresql-client-15"):
        programs.find("pg_nothing", least=15)


def test_a_secret_that_would_show_in_the_arguments_is_refused(bank: Settings) -> None:
    url = make_url(bank.database_url).update_query_dict({"sslpassword": "hidden"})
    with pytest.raises(ProgramFailed, match="sslpassword") as refusal:
        programs.run(Path("/bin/true"), url=url.render_as_string(hide_password=False))
    assert "hidden" not in str(refusal.value)
