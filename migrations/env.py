"""Runs migrations: one process at a time, one transaction for each migration."""

import logging
import time
from contextlib import ExitStack
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import OperationalError

from app.platform.db import Base, one_connection
from app.platform.engine import MIGRATION_TIMEOUTS
from app.platform.settings import Settings

# Any number, as long as nothing else in the database locks it.
LOCK = 4_061_938_275_510
LOCK_WAIT_SECONDS = 600
LOCK_POLL_SECONDS = 0.2
# Waiting for a lock on a table ends after `lock_timeout`, because everybody else queues up behind
# it. Most of those in the way are gone a little later: each pause is so much longer than the last.
TRIES = 5
PAUSE_SECONDS = 2
# Somebody else has a lock, and a deadlock with somebody else.
IN_THE_WAY = frozenset({"55P03", "40P01"})
log = logging.getLogger("alembic.env")


def is_ours(
    _object: object, name: str | None, _kind: str, _reflected: bool, _other: object
) -> bool:
    """Tell whether a model describes this; the tables of jobs belong to their library."""
    return not (name or "").startswith(("procrastinate_", "idx_procrastinate_"))


OPTIONS: dict[str, Any] = {
    "include_object": is_ours,
    "target_metadata": Base.metadata,
    "transaction_per_migration": True,
    "compare_type": True,
    "compare_server_default": True,
}


def application_role(settings: Settings) -> str | None:
    """Return the role the service connects as, or None when it is the owner itself."""
    owner = make_url(settings.database_migration_url).username
    role = make_url(settings.database_url).username
    if role == owner:
        return None
    if role is None:
        raise CommandError(
            "APP_DATABASE_URL must name its user, because APP_DATABASE_MIGRATION_URL names another."
        )
    return role


def take_lock(connection: Connection) -> None:
    """Wait until no other process migrates; the lock goes with the connection.

    Asking again and again, because a process that waits inside a statement holds a snapshot, and
    a CREATE INDEX CONCURRENTLY of the one that works would wait for it: a deadlock.

    Raises CommandError after ten minutes.
    """
    end = time.monotonic() + LOCK_WAIT_SECONDS
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
        if time.monotonic() > end:
            raise CommandError("Another process has been migrating this database for ten minutes.")
        time.sleep(LOCK_POLL_SECONDS)


def run(settings: Settings) -> None:
    """Run the migrations that were asked for, as the tables' owner.

    Raises CommandError, a sentence without a traceback, when the database can't be reached, or only
    through a pooler, where a lock doesn't stay with us.
    """
    if settings.database_pooler and settings.database_migration_url == settings.database_url:
        raise CommandError(
            "Migrations go around the pooler:"
            " set APP_DATABASE_MIGRATION_URL to the database itself."
        )
    with ExitStack() as opened:
        try:
            connection = opened.enter_context(one_connection(settings, migration=True))
        except OperationalError as error:
            reason = " ".join(str(error.orig).split())
            raise CommandError(f"The database can't be reached: {reason}") from None
        take_lock(connection)
        # The lock was taken in autocommit and outlives the transactions of the migrations.
        connection.rollback()
        migrate(connection.execution_options(isolation_level="READ COMMITTED"))


def migrate(connection: Connection) -> None:
    """Run the migrations, and go on from the one that failed when others were in its way.

    Raises CommandError when they still are at the last try.
    """
    for number in range(1, TRIES + 1):
        context.configure(connection=connection, **OPTIONS)
        try:
            with context.begin_transaction():
                context.run_migrations()
            return
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) not in IN_THE_WAY:
                raise
            connection.rollback()
            reason = " ".join(str(error.orig).split())
        if number < TRIES:
            log.warning("In the way of a migration (try %d of %d): %s", number, TRIES, reason)
            time.sleep(number * PAUSE_SECONDS)
    raise CommandError(
        f"Others were in the way of a migration at each of {TRIES} tries: {reason}. Run it"
        " again at a quieter time; it goes on where it was."
    )


def print_sql(settings: Settings) -> None:
    """Print the SQL of the migrations that were asked for (`--sql`), without a connection."""
    context.configure(
        url=settings.database_migration_url,
        literal_binds=True,
        # Or each per cent sign would be doubled, for a driver that isn't there.
        dialect_opts={"paramstyle": "named"},
        **OPTIONS,
    )
    # A connection of ours has it already; whoever runs this elsewhere shall wait no longer, either.
    context.static_output(f"SET lock_timeout = '{MIGRATION_TIMEOUTS['lock_timeout']}';\n")
    with context.begin_transaction():
        context.run_migrations()


SETTINGS: Settings = context.config.attributes["settings"]
context.config.attributes["application_role"] = application_role(SETTINGS)
if context.is_offline_mode():
    print_sql(SETTINGS)
else:
    run(SETTINGS)
