"""Asks a connection what it has led to: a server that takes writes, and keeps to our time limits.

Usually each connection says at its start which limits count for it. A pooler in transaction mode
(`APP_DATABASE_POOLER`) refuses that, or is told to ignore it, and then nothing would ever end a
statement that hangs. There the role has to bring them, as deploy/roles.sql says.
"""

from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.platform import db
from app.platform.engine import SESSION, TIMEOUTS
from app.platform.settings import Settings, SettingsError

REQUIRED: Final = SESSION | TIMEOUTS
# What every PgBouncer says to a connection that brings its own limits; newer ones go on otherwise.
REFUSED: Final = "unsupported startup parameter"
_names = ", ".join(f"current_setting('{name}') AS {name}" for name in REQUIRED)
_LOOK: Final = text(f"SELECT current_setting('transaction_read_only') AS read_only, {_names}")


def shortcoming(connection: Connection) -> str | None:
    """Return in a few words why requests can't be served on this connection, or None.

    One statement. Raises sqlalchemy.exc.DBAPIError.
    """
    found = connection.execute(_LOOK).one()
    if found.read_only == "on":
        return "read-only"
    lacking = [name for name, value in REQUIRED.items() if getattr(found, name) != value]
    return f"without {', '.join(lacking)}" if lacking else None


def check(settings: Settings) -> bool:
    """See to it that our limits count before anything is served; tell if the database is there.

    Raises SettingsError.
    """
    try:
        with db.one_connection(settings) as connection:
            found = shortcoming(connection)
    except DBAPIError as fault:
        if REFUSED not in str(fault.orig):
            return False
        problem = (
            "APP_DATABASE_URL leads to a pooler, which refuses the time limits that connections"
            " bring; set APP_DATABASE_POOLER=true, and give the role those of deploy/roles.sql."
        )
        raise SettingsError([problem], production=settings.is_production) from None
    # A standby becomes a primary while we wait; limits come by nobody's waiting.
    if found is not None and found.startswith("without"):
        problem = (
            f"The connections of APP_DATABASE_URL are {found}, which the role has to bring behind a"
            " pooler; do the ALTER ROLE of deploy/roles.sql, and reconnect the pooler."
        )
        raise SettingsError([problem], production=settings.is_production)
    return True
