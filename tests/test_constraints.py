"""Every constraint and every trigger of the database has a case here that trips it with plain SQL.

The catalogue is the list: whatever a migration adds fails this file until it has its case.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError

from tests.constraint_cases import CONSTRAINTS, EFFECTS, REFUSALS
from tests.tracing import unfollowed
from tests.valid_rows import SEED

pytestmark = unfollowed

Sql = Callable[..., list[Row[Any]]]

# What its tables refuse is tested where they come from.
LIBRARY = "procrastinate_"


@pytest.fixture
def seeded(owner_engine: Engine) -> Iterator[Connection]:
    """A connection of the tables' owner, in a transaction that never ends well."""
    with owner_engine.connect() as autocommit:
        connection = autocommit.execution_options(isolation_level="READ COMMITTED")
        connection.exec_driver_sql(SEED)
        yield connection
        connection.rollback()


def error_of(connection: Connection, statement: str) -> Any:
    """Return what PostgreSQL says about the statement and its deferred checks, or None."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(statement)
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    except DBAPIError as error:
        return getattr(error.orig, "diag", None)
    finally:
        savepoint.rollback()
    return None


def disable(connection: Connection, trigger: str) -> str:
    """Switch a trigger off in this transaction and return its table."""
    table = connection.scalar(
        text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = :name"),
        {"name": trigger},
    )
    connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    return str(table)


def test_every_constraint_has_a_case(sql: Sql) -> None:
    constraints = sql(
        """
        SELECT conname FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'p', 'u', 'x')
            AND NOT starts_with(conrelid::regclass::text, :library)
        UNION ALL
        SELECT i.relname FROM pg_index JOIN pg_class i ON i.oid = indexrelid
        WHERE i.relnamespace = 'public'::regnamespace AND indisunique
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid)
            AND NOT starts_with(indrelid::regclass::text, :library)
        """,
        library=LIBRARY,
    )
    names = sorted(name for (name,) in constraints if not name.startswith("alembic_version"))
    assert names == sorted(CONSTRAINTS)


def test_every_foreign_key_has_an_index_that_begins_with_it(sql: Sql) -> None:
    """Or each change of what it refers to, and each question from there, reads the whole table."""
    keys = sql(
        """
        SELECT conname FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype = 'f'
            AND NOT starts_with(conrelid::regclass::text, :library)
            AND NOT EXISTS (
                SELECT FROM pg_index WHERE indrelid = conrelid AND indisvalid
                    AND (indkey::smallint[])[0 : cardinality(conkey) - 1] @> conkey
            )
        """,
        library=LIBRARY,
    )
    assert sorted(name for (name,) in keys) == []


def test_every_trigger_has_a_case(sql: Sql) -> None:
    triggers = sql(
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
        " AND NOT starts_with(tgrelid::regclass::text, :library)",
        library=LIBRARY,
    )
    assert sorted(name for (name,) in triggers) == sorted([*REFUSALS, *EFFECTS])


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_refuses_what_it_is_there_for(seeded: Connection, name: str) -> None:
    error = error_of(seeded, CONSTRAINTS[name])
    assert error is not None
    assert error.constraint_name == name


@pytest.mark.parametrize("name", REFUSALS)
def test_a_trigger_refuses_what_it_is_there_for(seeded: Connection, name: str) -> None:
    for statement in REFUSALS[name]:
        error = error_of(seeded, statement)
        assert error is not None
        refused = (error.constraint_name or error.table_name, error.message_primary)
        around = seeded.begin_nested()
        table = disable(seeded, name)
        assert refused[0] in (name, table)
        without = error_of(seeded, statement)
        # Another rule may still stand in the way, but not this one.
        assert without is None or without.message_primary != refused[1]
        around.rollback()


@pytest.mark.parametrize("name", EFFECTS)
def test_a_trigger_does_what_it_is_there_for(seeded: Connection, name: str) -> None:
    statement, question = EFFECTS[name]
    answers = []
    for prepare in (lambda: None, lambda: disable(seeded, name)):
        savepoint = seeded.begin_nested()
        prepare()
        seeded.exec_driver_sql(statement)
        answers.append(seeded.exec_driver_sql(question).scalar_one())
        savepoint.rollback()
    assert answers == [True, False]
