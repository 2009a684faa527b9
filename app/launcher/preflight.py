"""Checks, before anything starts, that the port is free and that the database can be used."""

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2

from app.platform.migrations import RECORDED
from app.platform.settings import Settings

OLDEST_SERVER = 150000
CONNECT_SECONDS = 5


class StartError(Exception):
    """The service can't start; the message is a sentence for a person."""


def check_port(settings: Settings) -> None:
    """Check that the service can listen at its address.

    Raises StartError.
    """
    port = settings.server_port
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            settings.server_host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            # As the web server does: connections of an earlier run that linger don't count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        remedy = "Correct APP_SERVER_HOST."
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            other = port + 1 if 1024 <= port < 65535 else 3000
            remedy = f"Free that port, or choose another with APP_SERVER_PORT={other}."
        raise StartError(
            f"The service can't listen on {settings.server_bind}: {error.strerror}. {remedy}"
        ) from None


def check_database(url: str, *, variable: str) -> None:
    """Check that the service can connect, to a server that is new enough.

    Raises StartError.
    """
    with _connection(url, variable):
        pass


def recorded_revision(url: str, *, variable: str) -> tuple[str | None, str | None]:
    """Return the revision of a database's tables, and that of the oldest code they serve.

    The first is None when nothing was ever migrated, the second when they serve all.
    The checks of `check_database` included. Without SQLAlchemy, whose import would be a quarter
    of the whole start.

    Raises StartError.
    """
    with _connection(url, variable) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('alembic_version')")
        if cursor.fetchone() == (None,):
            return None, None
        cursor.execute(RECORDED)
        revision, serves_from = cursor.fetchone() or (None, None)
        return revision, serves_from


def one_line(error: BaseException | None) -> str:
    """Return a driver's message as one line."""
    return " ".join(str(error).split())


@contextmanager
def _connection(url: str, variable: str) -> Iterator[psycopg2.extensions.connection]:
    """Connect as the service will, and turn what goes wrong into a sentence without the URL."""
    plain = url.replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        with closing(psycopg2.connect(plain, connect_timeout=CONNECT_SECONDS)) as connection:
            version = connection.server_version
            if version < OLDEST_SERVER:
                raise StartError(
                    f"PostgreSQL 15 or newer is needed, and {variable} leads to version "
                    f"{version // 10000}.{version % 10000}."
                )
            yield connection
    except psycopg2.OperationalError as error:
        raise StartError(f"The database of {variable} can't be used: {one_line(error)}") from None
    except psycopg2.Error as error:
        # Only the server's own words: the client library quotes the URL, which holds the password.
        said = error.diag.message_primary or "its client library doesn't understand the URL"
        raise StartError(f"The database of {variable} can't be used: {said}") from None
