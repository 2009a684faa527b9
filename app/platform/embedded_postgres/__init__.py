"""Runs the PostgreSQL 18 that comes as a Python package, for development and tests.

It listens on a Unix socket only, with passwords that nobody chose. The server belongs to the data
folder rather than to a process: who finds it running uses it, and the last one who stops ends it.
"""

import fcntl
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from psycopg2 import extensions, sql

from app.platform.development import development_secret
from app.platform.embedded_postgres.cluster import (
    ROOM_FOR_START,
    SUPERUSER,
    check_room,
    last_lines,
    make_cluster,
)
from app.platform.embedded_postgres.place import EmbeddedPostgresError, Place, settle
from app.platform.embedded_postgres.process import end, first_connection, launch, listens
from app.platform.embedded_postgres.programs import programs

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "urls"]

OWNER = "bursar_owner"
APPLICATION = "bursar_app"
DATABASE = "bursar"
# It is part of the socket's name only. It is written out since PGPORT would change it.
PORT = 5432


def urls(data_dir: Path) -> tuple[str, str]:
    """Return the URLs of the application's role and of the owner's role.

    Passwords are made when they are missing; no server is started.

    Raises EmbeddedPostgresError.
    """
    with _sentences(data_dir):
        place = settle(data_dir)
        return (
            _url("postgresql+psycopg2", place, data_dir, APPLICATION, DATABASE),
            _url("postgresql+psycopg2", place, data_dir, OWNER, DATABASE),
        )


class EmbeddedPostgres:
    """The running server of one data folder, and this process's share in it."""

    def __init__(self, place: Place, data_dir: Path) -> None:
        self.place = place
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._share: int | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        say: Callable[[str], None],
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> "EmbeddedPostgres":
        """Return the data folder's server, which accepts connections and has roles and database.

        A new folder is initialised. A server that already runs there is used as it is, also one
        that a killed process left over. With `durable=False` commits don't wait for the disk, and
        the server ends with this process. `settings` are PostgreSQL's, for a server started here.

        Raises EmbeddedPostgresError.
        """
        with _sentences(data_dir):
            server = cls(settle(data_dir), data_dir)
            server.place.make()
            with _alone(server.place):
                if listens(server.place):
                    say("PostgreSQL is running already: using it")
                else:
                    server._launch(durable=durable, settings=settings or {}, say=say)
                try:
                    server._make_roles(say)
                except BaseException:
                    # Nobody else can know of a server that wasn't handed out.
                    if server._process is not None:
                        end(server.place, process=server._process, immediate=True)
                    raise
                server._share = server.place.account.open_file(server.place.home / "users.lock")
                fcntl.flock(server._share, fcntl.LOCK_SH)
            return server

    def stop(self, *, immediate: bool = False) -> None:
        """End the server, unless another process still uses it; a second call does nothing.

        Open transactions are rolled back. `immediate` skips the final checkpoint: the next start
        recovers, and no commit is lost.

        Raises EmbeddedPostgresError.
        """
        if self._share is None:
            return
        share, self._share = self._share, None
        with _sentences(self._data_dir), _alone(self.place), os.fdopen(share):
            try:
                # Such locks end with their process, so users that were killed don't count.
                fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            end(self.place, process=self._process, immediate=immediate)

    def is_running(self) -> bool:
        """Tell whether the server is still there."""
        if self._process is not None:
            return self._process.poll() is None
        return listens(self.place)

    def superuser_dsn(self) -> str:
        """Return a URL for the superuser and the database `postgres`."""
        return _url("postgresql", self.place, self._data_dir, SUPERUSER, "postgres")

    def last_log_lines(self) -> str:
        """Return the end of the server's log."""
        return last_lines(self.place.log.read_text(errors="replace"))

    def _launch(
        self, *, durable: bool, settings: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        """Start the server's process, after making its data folder when there is none."""
        folder = programs(self.place)
        if not self.place.cluster.exists():
            password = _password(self._data_dir, SUPERUSER)
            make_cluster(self.place, programs=folder, password=password, durable=durable, say=say)
        check_room(self.place.home, ROOM_FOR_START)
        self._process = launch(
            self.place, programs=folder, durable=durable, settings=settings, say=say
        )

    def _make_roles(self, say: Callable[[str], None]) -> None:
        """Wait for the server, then make the roles and the database that are missing."""
        with closing(
            first_connection(self.place, self.superuser_dsn(), process=self._process, say=say)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for role in (OWNER, APPLICATION):
                    _make_role(connection, cursor, role, _password(self._data_dir, role))
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.rowcount == 0:
                    _make_database(cursor)


def _make_role(
    connection: extensions.connection, cursor: extensions.cursor, role: str, password: str
) -> None:
    """Make a role that can sign in and nothing else, unless it is there."""
    cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,))
    if cursor.rowcount:
        return
    # Encrypted here, so that the password itself can't get into the server's log.
    encrypted = extensions.encrypt_password(password, role, connection, "scram-sha-256")
    cursor.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(encrypted)
        )
    )


def _make_database(cursor: extensions.cursor) -> None:
    """Make the database, which belongs to the owner and which only our roles may connect to."""
    name = sql.Identifier(DATABASE)
    cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, sql.Identifier(OWNER)))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    cursor.execute(
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(APPLICATION))
    )


def _password(data_dir: Path, role: str) -> str:
    """Return the random password of a role, made at the first call."""
    return development_secret(data_dir, f"{role}_password", lambda: secrets.token_urlsafe(24))


def _url(scheme: str, place: Place, data_dir: Path, role: str, database: str) -> str:
    """Return a database URL over the Unix socket."""
    password = quote(_password(data_dir, role), safe="")
    host = quote(str(place.sockets), safe="/")
    return f"{scheme}://{role}:{password}@/{database}?host={host}&port={PORT}"


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Hold the place for one start or stop; a second one waits, a killed one lets go."""
    with os.fdopen(place.account.open_file(place.home / "start.lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _sentences(data_dir: Path) -> Iterator[None]:
    """Turn what the system refuses into a sentence: no space, no permission, a read-only disk."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"The database can't be used: {error.filename or data_dir}: {error.strerror}."
        ) from error
