"""A backup made while credits move, its drill, and the restore that README tells, word by word."""

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import UUID

import psycopg2
import pytest
from sqlalchemy import make_url

from app import configure, create_app
from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres
from app.platform.settings import PROJECT_ROOT, Settings, load_settings
from tests import people
from tests.commands import program
from tests.database import pool_on, variables
from tests.people import TestUser
from tests.server.serving import serving, wait_until
from tests.system.external_postgres import PASSWORDS, external_postgres
from tests.system.test_transfers_under_load import Sender, same_service

CLIENTS = 8
# So many transfers are acknowledged before the backup begins.
ENOUGH = 50
RESTORE = re.search(
    r"To restore, .*?```sh\n(.*?)```", (PROJECT_ROOT / "README.md").read_text(), re.DOTALL
)


@pytest.fixture
def bank(settings: Settings, pool: None, tmp_path: Path) -> Iterator[Settings]:
    """A migrated database on Debian's PostgreSQL, which this process's pool is on."""
    with external_postgres() as urls:
        found = load_settings({"APP_ENV": "test", "APP_DATA_DIR": str(tmp_path / "data"), **urls})
        migrations.upgrade(found)
        with pool_on(found, instead_of=settings):
            yield found
    configure(settings)


@pytest.fixture
def new_server() -> Iterator[EmbeddedPostgres]:
    """A server without our roles and without a database."""
    with tempfile.TemporaryDirectory(prefix="bursar-new-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres.start(Path(folder, "data"), say=lambda _: None)
        try:
            with closing(psycopg2.connect(server.superuser_dsn())) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("DROP DATABASE bursar")
                    cursor.execute("DROP ROLE bursar_app, bursar_owner")
            yield server
        finally:
            server.stop(immediate=True)


def back_up(bank: Settings, folder: Path, file: Path) -> tuple[list[UUID], int]:
    """Make a backup while clients send credits.

    Return which transfers were acknowledged before, and how many while it was made.
    """
    app = create_app(bank)
    users: list[TestUser] = [people.make_user(app, credits=1000) for _ in range(10)]
    sizes = {"APP_SERVER_WORKERS": "2", "APP_DATABASE_MAX_CONNECTIONS": "8"}
    with serving(folder, app=None, **same_service(bank), **sizes) as live:
        senders = [Sender(live.port, users, seed) for seed in range(CLIENTS)]
        stop = threading.Event()

        def send(sender: Sender) -> None:
            while not stop.is_set():
                sender.run(0.2, retries=False)

        def acknowledged() -> list[UUID]:
            return [transfer for each in senders for transfer in each.acknowledged]

        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(send, each) for each in senders]
            try:
                wait_until(lambda: len(acknowledged()) > ENOUGH, seconds=60)
                before = acknowledged()
                done = program(bank, sys.executable, "-m", "flask", "backup", str(file))
                during = len(acknowledged()) - len(before)
            finally:
                stop.set()
            for each in running:
                each.result()
    assert done.returncode == 0, done.stderr
    assert {status for each in senders for status in each.statuses} <= {201, 402}
    return before, during


def test_a_backup_under_load_holds_all_that_was_acknowledged_and_restores_as_readme_says(
    bank: Settings, new_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    assert RESTORE is not None
    folder = tmp_path / "bursar"
    folder.mkdir()
    for path in PROJECT_ROOT.iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    acknowledged, during = back_up(bank, tmp_path, folder / "bursar.dump")
    assert during > 0

    drill = program(
        bank, sys.executable, "-m", "flask", "restore-drill", str(folder / "bursar.dump")
    )
    assert drill.returncode == 0, drill.stdout + drill.stderr
    assert drill.stdout == "The backup is good: it was restored, and its books are right.\n"

    superuser = make_url(new_server.superuser_dsn())
    urls = {
        role: superuser.set(
            username=role, password=PASSWORDS[f"{variable}_PASSWORD"], database="bursar"
        ).render_as_string(hide_password=False)
        for role, variable in (("bursar_app", "BURSAR_APP"), ("bursar_owner", "BURSAR_OWNER"))
    }
    restored = variables(bank) | {
        "APP_DATABASE_URL": urls["bursar_app"],
        "APP_DATABASE_MIGRATION_URL": urls["bursar_owner"],
    }
    steps = subprocess.run(
        ["/bin/bash", "-eux", "-o", "pipefail", "-c", RESTORE[1]],
        cwd=folder,
        env=os.environ
        | PASSWORDS
        | restored
        | {
            "SUPERUSER": new_server.superuser_dsn(),
            "OWNER": urls["bursar_owner"],
            "PATH": f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert steps.returncode == 0, steps.stdout + steps.stderr
    assert "The books are right: every check passed." in steps.stdout
    assert "PROBLEM" not in steps.stdout

    with (
        closing(psycopg2.connect(urls["bursar_owner"])) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT id::text FROM transfers")
        there = {UUID(found) for (found,) in cursor.fetchall()}
    assert set(acknowledged) - there == set()
    with serving(tmp_path, app=None, **restored) as service:
        assert service.get("/ready").json == {
            "status": "ready",
            "checks": {"database": "ok", "driver": "ok", "migrations": "ok", "keys": "ok"},
        }
