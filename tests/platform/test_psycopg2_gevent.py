"""A gevent worker waits for its database without stopping, and no kill ever mixes up answers."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from app.platform import db
from app.platform.settings import PROJECT_ROOT, Settings
from tests.database import Databases, variables
from tests.platform import gevent_kills, gevent_programs

TABLES = """
CREATE TABLE things (id bigint PRIMARY KEY);
INSERT INTO things VALUES (1);
CREATE TABLE slow_to_commit (id bigint);
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow_to_commit
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();
GRANT ALL ON things, slow_to_commit TO PUBLIC;
"""
# Each has a process of its own; they are forked, because loading everything takes the longest.
PROGRAM = """
from gevent import monkey
monkey.patch_all()
import multiprocessing, sys
from tests.platform import {module} as programs
for name in {names}:
    target = getattr(programs, name)
    process = multiprocessing.get_context("fork").Process(target=target, daemon=True)
    process.start()
    process.join(60)
    if process.exitcode != 0:
        print(f"{{name}} ended with {{process.exitcode}}", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def own(databases: Databases) -> Iterator[Settings]:
    """A database with the tables above."""
    with databases.unmigrated() as settings:
        with db.one_connection(settings, migration=True) as connection:
            connection.exec_driver_sql(TABLES)
        yield settings


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("module", [gevent_programs, gevent_kills])
def test_in_a_gevent_worker(module: ModuleType, own: Settings) -> None:
    names = [
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and name != "tick"
    ]
    assert len(names) > 4
    program = PROGRAM.format(module=module.__name__.rpartition(".")[2], names=names)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=PROJECT_ROOT,
        env={**os.environ, **variables(own)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # A greenlet that dies of an exception says so there, whatever becomes of the program.
    assert not done.stderr, done.stderr
    assert done.returncode == 0
