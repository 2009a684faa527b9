"""The code runs on the oldest schema that it names and on the next one, and says so in `/ready`."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import time_machine
from alembic import command
from flask import Flask
from sqlalchemy import inspect, text

from app import configure, create_app
from app.credits import holds, keeping, verification
from app.mail import delivery
from app.orders import cancellation
from app.platform import clock, db, migrations
from app.platform.db import Base
from app.platform.settings import Settings
from app.support import erasure, retention
from app.worker import numbers, relay
from tests import people
from tests.access_table import MATRIX, WHO
from tests.banking import ACTIONS, Customer, make_bank
from tests.client import Client
from tests.database import Databases, pool_on
from tests.network import free_port
from tests.scenes import Scene, ask
from tests.tracing import unfollowed
from tests.worker.working import wait_until, working

pytestmark = unfollowed
Upgrade = Callable[[Settings, str], None]

# What a later release may do to every table and to all that uses it: whoever names no columns, or
# counts them, fails then.
LATER = '''
"""What a later release brings."""

from alembic import op

revision = "9998_later"
down_revision = "{head}"
branch_labels = None
depends_on = None

TABLES = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
      AND relname <> 'alembic_version' AND NOT starts_with(relname, 'procrastinate_')
"""


def upgrade() -> None:
    """Add columns, a check, a table, and a function beside those of a known name."""
    for (table,) in op.get_bind().exec_driver_sql(TABLES).fetchall():
        op.execute(f"ALTER TABLE {{table}} ADD COLUMN later_text text")
        op.execute(f"ALTER TABLE {{table}} ADD COLUMN later_number bigint NOT NULL DEFAULT 7")
        op.execute(
            f"ALTER TABLE {{table}} ADD CONSTRAINT ck_{{table}}_later"
            " CHECK (later_number = 7) NOT VALID"
        )
    op.execute("CREATE TABLE laters (id uuid PRIMARY KEY, user_id uuid REFERENCES users (id))")
    op.execute("CREATE FUNCTION post_transfer_v9() RETURNS void LANGUAGE sql AS ''")
'''
CONTRACTED = '''
"""What takes something away."""

from alembic import op

from migrations.contracting import contract

revision = "9999_contracted"
down_revision = "9998_later"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say that only the later release runs on this."""
    contract(serves_from="9998_later")
'''


@contextmanager
def service_on(database: Settings, instead_of: Settings) -> Iterator[Flask]:
    """The application on another database, which this process's pool is on meanwhile."""
    with pool_on(database, instead_of=instead_of):
        yield create_app(database)
    configure(instead_of)


@pytest.fixture
def upgrade(tmp_path: Path) -> Upgrade:
    """A function that migrates to a revision, also to one of those that are still to come."""
    copy = shutil.copytree(migrations.DIRECTORY, tmp_path / "migrations")
    head = migrations.head_revision()
    (copy / "versions" / "9998_later.py").write_text(LATER.format(head=head))
    (copy / "versions" / "9999_contracted.py").write_text(CONTRACTED)

    def run(database: Settings, revision: str) -> None:
        config = migrations.configuration(database)
        config.set_main_option("script_location", str(copy))
        command.upgrade(config, revision)

    return run


@pytest.fixture
def later(databases: Databases, upgrade: Upgrade) -> Iterator[Settings]:
    """A database that the next release has migrated."""
    with databases.fresh() as database:
        upgrade(database, "9998_later")
        yield database


def ready(app: Flask) -> tuple[int, str]:
    answer = Client(app).get("/ready")
    return answer.status_code, answer.json["checks"]["migrations"]


def use_everything(app: Flask, database: Settings) -> None:
    """Call each route of the API as somebody who may, do all that moves credits, and all jobs."""
    admin, refused = people.make_user(app, roles=("admin",)), {}
    for call, codes in MATRIX.items():
        if "/api/" not in call:
            continue
        owner = people.make_user(app, credits=10)
        actor = owner if codes[WHO.index("user")] < 400 else admin
        scene = Scene(app=app, sql=partial(run_sql, database), owner=owner, actor=actor)
        answer = ask(call, scene)
        if answer.status_code >= 400:
            refused[call] = answer.text
    assert refused == {}
    customer = Customer(make_bank(5, credits=1000), seed=1)
    wanted = {action.__name__ for action in ACTIONS}
    # Some are refused at first, for want of something that the dice let others end before.
    for action in ACTIONS * 30:
        if customer.done.keys() < wanted:
            customer.act(action)
    assert set(customer.done) == wanted
    assert relay.relay() > 0
    for (mail_id,) in run_sql(database, "SELECT id FROM mails WHERE state = 'waiting'"):
        delivery.deliver(mail_id, settings=database)
    # By then everything is due.
    with time_machine.travel(clock.now() + timedelta(days=500)):
        for job in (holds.expire_due, cancellation.expire_due, keeping.fold_all):
            job()
        assert erasure.erase_due() > 0
        assert sum(retention.sweep().values()) > 0
        assert keeping.check() == 0
    assert list(verification.verify()) == []


def run_sql(database: Settings, statement: str, **parameters: Any) -> list[Any]:
    with db.one_connection(database, migration=True) as connection:
        result = connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []


def whatever_the_code_names_is_there(least: Settings) -> None:
    """Tables and columns of the models, and each name with a version that the code mentions."""
    with db.one_connection(least, migration=True) as connection:
        tables = inspect(connection)
        missing = [
            f"{table.name}.{column.name}"
            for table in Base.metadata.sorted_tables
            for column in table.columns
            if not tables.has_table(table.name)
            or column.name not in {each["name"] for each in tables.get_columns(table.name)}
        ]
    assert missing == []
    named = "SELECT proname::text FROM pg_proc UNION SELECT typname::text FROM pg_type"
    found = {name for (name,) in run_sql(least, named)}
    code = "".join(path.read_text() for path in Path("app").rglob("*.py"))
    called = set(re.findall(r"\b[a-z_]+_v[0-9]+\b", code))
    assert "post_transfer_v3" in called
    assert sorted(called - found) == []


def test_the_code_runs_on_the_oldest_schema_that_it_names_and_on_none_before(
    databases: Databases, settings: Settings, upgrade: Upgrade
) -> None:
    names = sorted(path.stem for path in migrations.DIRECTORY.glob("versions/[0-9]*.py"))
    before = names[names.index(migrations.LEAST_REVISION) - 1]
    with databases.unmigrated() as least, service_on(least, settings) as app:
        assert ready(app) == (503, "behind")
        upgrade(least, before)
        assert ready(create_app(least)) == (503, "behind")
        upgrade(least, migrations.LEAST_REVISION)
        whatever_the_code_names_is_there(least)
        app = create_app(least)
        assert ready(app) == (200, "ok")
        use_everything(app, least)


def test_the_code_runs_on_the_schema_of_the_next_release(
    later: Settings, settings: Settings
) -> None:
    with service_on(later, settings) as app:
        assert ready(app) == (200, "ok")
        use_everything(app, later)
    assert run_sql(later, "SELECT DISTINCT later_number FROM transfers") == [(7,)]


def test_a_schema_that_no_longer_serves_the_code_is_ahead_and_fine_for_the_release_it_serves(
    later: Settings, settings: Settings, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service_on(later, settings) as app:
        assert ready(app) == (200, "ok")
        upgrade(later, "9999_contracted")
        assert ready(create_app(later)) == (503, "ahead")
        monkeypatch.setattr(migrations, "head_revision", lambda: "9998_later")
        assert ready(create_app(later)) == (200, "ok")


def test_a_worker_waits_for_a_schema_that_it_runs_with(
    databases: Databases, upgrade: Upgrade, tmp_path: Path
) -> None:
    with databases.unmigrated() as database, working(database, tmp_path) as worker:
        said = worker.until("worker_waits_for_a_schema")
        assert (said["schema"], "flask db upgrade" in said["advice"]) == ("behind", True)
        upgrade(database, migrations.LEAST_REVISION)
        wait_until(lambda: run_sql(database, "SELECT FROM procrastinate_workers"), worker)
        assert worker.end()[0] == 0
        assert len(worker.lines("worker_waits_for_a_schema")) == 1
        assert not worker.lines("worker_database_away")
    with databases.unmigrated() as database:
        upgrade(database, "9999_contracted")
        with working(database, tmp_path) as worker:
            assert worker.until("worker_waits_for_a_schema")["schema"] == "ahead"
            time.sleep(2)
            assert run_sql(database, "SELECT FROM procrastinate_workers") == []
            assert worker.end()[0] == 0


def test_a_schema_that_is_only_begun_is_behind(
    databases: Databases, settings: Settings, tmp_path: Path
) -> None:
    """The first migration makes the table of revisions before anybody else may read it."""
    with databases.unmigrated() as begun, service_on(begun, settings) as app:
        run_sql(begun, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        run_sql(begun, "INSERT INTO alembic_version VALUES ('0001_audit')")
        assert ready(app) == (503, "behind")
        address = f"127.0.0.1:{free_port()}"
        with working(begun, tmp_path, APP_WORKER_METRICS_BIND=address) as worker:
            assert worker.until("worker_waits_for_a_schema")["schema"] == "behind"
            # Longer than a loop may stand still: it waits, and lives.
            time.sleep(numbers.STILL_SECONDS + 1)
            with urlopen(f"http://{address}/health", timeout=5) as answer:
                assert answer.status == 200
            assert worker.end()[0] == 0
