"""Examines the database's server: whether it keeps what it says, and what it lets whom do."""

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, Final

from sqlalchemy import Connection, text

from app.platform import clock, db, migrations
from app.platform.engine import TIMEOUTS
from app.platform.settings import Settings
from app.upkeep.findings import Finding, problem, warning

OLDEST: Final = 150_000
# What `flask worker` opens at most.
WORKER_CONNECTIONS: Final = 10
# Larger than what machines that ask a time server differ by.
CLOCK_SECONDS: Final = 2.0

DURABLE: Final = {
    "fsync": "a crash of the machine may destroy the whole database",
    "full_page_writes": "a crash of the machine may leave torn pages in tables",
    "synchronous_commit": "a crash loses transfers that were acknowledged",
}
# What nobody but the functions of the ledger may change, and nobody at all.
BOOKS: Final = ("accounts", "account_deltas", "transfers", "entries", "holds", "audit_events")


def identity(connection: Connection) -> tuple[Any, ...]:
    """Return what tells one database from every other one."""
    return tuple(
        connection.exec_driver_sql(
            "SELECT oid, datname, pg_postmaster_start_time() FROM pg_database"
            " WHERE datname = current_database()"
        ).one()
    )


def has_tables(connection: Connection) -> bool:
    """Tell whether the tables are there that this version needs."""
    return migrations.state(connection) == migrations.OK


def durability(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Ask whether the server is new enough, keeps what it acknowledges, and can be written to."""
    version = int(_show(connection, "server_version_num"))
    if version < OLDEST:
        yield problem(
            f"PostgreSQL 15 or newer is needed, and this is {_show(connection, 'server_version')}:"
            " move to a newer one, with flask backup and flask restore-drill or with pg_upgrade."
        )
    grave = problem if settings.is_production else warning
    for name, loss in DURABLE.items():
        if _show(connection, name) == "off":
            yield grave(f"{name} is off: {loss}. Switch it on in postgresql.conf.")
    if _show(connection, "server_encoding") != "UTF8":
        yield problem(
            f"The database's encoding is {_show(connection, 'server_encoding')}, which can't hold"
            " every name: create it with ENCODING 'UTF8', and restore a backup into it."
        )
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar():
        yield problem(
            "APP_DATABASE_URL leads to a standby, where nothing can be written: name the primary,"
            " or all servers and target_session_attrs=read-write."
        )
    wrong = {name: _show(connection, name) for name in TIMEOUTS}
    wrong = {name: value for name, value in wrong.items() if value != TIMEOUTS[name]}
    if wrong:
        yield problem(
            "Connections don't have the service's time limits"
            f" ({', '.join(f'{name} is {value}' for name, value in wrong.items())}): something"
            " between here and PostgreSQL drops them. A request that hangs would keep its locks."
            " For a pooler set APP_DATABASE_POOLER, and the limits of the role by deploy/roles.sql."
        )


def roles(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Ask what the service's role may do, beyond what it needs."""
    role, superuser = connection.exec_driver_sql(
        "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user"
    ).one()
    grave = problem if settings.is_production else warning
    advice = "deploy/roles.sql makes a role that may do what it needs: put it in APP_DATABASE_URL."
    if superuser:
        yield grave(
            f"The service connects as {role}, a superuser: whoever takes it over has the whole"
            f" server. {advice}"
        )
        return
    owned = connection.execute(
        text(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'MEMBER')"
        )
    ).scalar_one()
    if owned:
        yield warning(
            f"The service connects as {role}, which owns the tables: only triggers protect the"
            f" books, and it can drop those. {advice}"
        )
        return
    changeable = connection.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relname = ANY (:books) AND has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')"
            " ORDER BY relname"
        ),
        {"books": list(BOOKS)},
    ).scalars()
    for table in changeable:
        yield problem(
            f"{role} may change what is in {table}, and nobody should: as the tables' owner, REVOKE"
            f" UPDATE, DELETE, TRUNCATE ON {table} FROM {role}."
        )
    if connection.exec_driver_sql("SELECT has_schema_privilege('public', 'CREATE')").scalar():
        yield warning(
            f"{role} may create tables and functions: REVOKE CREATE ON SCHEMA public FROM PUBLIC,"
            f" {role}."
        )


def limits(connection: Connection, settings: Settings, *, machines: int) -> Iterator[Finding]:
    """Ask whether all pools together fit into what the server, database and role allow.

    Behind a pooler its own limits count, and only it knows them.
    """
    if settings.database_pooler:
        return
    allowed = {name: number for name, number in _allowed(connection).items() if number >= 0}
    size = settings.database_max_connections or db.pool_size(
        settings, int(_show(connection, "max_connections"))
    )
    web = size * settings.server_workers
    wanted = machines * (web + WORKER_CONNECTIONS)
    for name, number in allowed.items():
        if wanted > number:
            fitting = (number // machines - WORKER_CONNECTIONS) // settings.server_workers
            advice = f"set APP_DATABASE_MAX_CONNECTIONS={fitting}, or raise it"
            yield (problem if settings.is_production else warning)(
                f"{machines} times {settings.server_workers} web workers with {size} connections"
                f" each, and {WORKER_CONNECTIONS} of flask worker, make {wanted}; {name} allows"
                f" {number}: {advice if fitting > 0 else 'raise it'}."
            )


def schema(connection: Connection) -> Iterator[Finding]:
    """Ask whether this version runs with the schema, and whether all of that is in order."""
    revision, state = migrations.current_revision(connection), migrations.state(connection)
    head = migrations.head_revision()
    if state == migrations.BEHIND:
        yield problem(
            f"The tables are at revision {revision or 'none'}, and this version needs"
            f" {migrations.LEAST_REVISION} or newer: run flask db upgrade."
        )
    elif state == migrations.AHEAD:
        yield problem(
            f"A newer version has migrated the tables to revision {revision}, and this one can't"
            " run with them: deploy the newer one."
        )
    elif revision is not None and revision < head:
        yield warning(f"The tables are at revision {revision}, {head} is due: flask db upgrade.")
    broken = connection.exec_driver_sql(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1"
    ).scalars()
    for index in broken:
        yield warning(
            f"The index {index} was never finished, and nothing uses it: flask db upgrade builds it"
            " anew, or DROP INDEX removes it."
        )


def time_difference(connection: Connection) -> Iterator[Finding]:
    """Compare the clock of the server with that of this machine."""
    began, before = monotonic(), clock.now()
    there = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    # The server looked at its clock at some moment of the round trip.
    apart = max(abs((there - before).total_seconds()) - (monotonic() - began), 0)
    if apart > CLOCK_SECONDS:
        yield problem(
            f"The clocks of this machine and of the database's server are {apart:.0f} s apart:"
            " tokens and limits go by the one, people see the other. Have both ask a time server."
        )


def _allowed(connection: Connection) -> Mapping[str, int]:
    """Return how many connections there may be, by what says so; -1 means any number."""
    row = connection.exec_driver_sql(
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0) AS server,"
        " (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database,"
        " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role"
    ).one()
    return {
        "max_connections of the server": row.server,
        "the connection limit of the database": row.database,
        "the connection limit of the role": row.role,
    }


def _show(connection: Connection, name: str) -> str:
    return str(connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar())
