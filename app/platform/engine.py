"""How this service speaks to PostgreSQL: its driver, its time limits, and what no log ever sees."""

from collections.abc import Mapping
from typing import Any, Final

from psycopg2 import OperationalError
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError

from app.platform.psycopg2_gevent import Connection

# Each is shorter than the next: waiting for a lock, a statement, our own deadline on a statement
# (psycopg2_gevent), an idle transaction, the request. So the innermost one speaks, and a request
# that was given up leaves no statement and no lock behind for long.
TIMEOUTS: Final = {
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "15s",
    "client_connection_check_interval": "5s",
}
# A migration waits no longer for a lock, for everyone else would queue behind it; but once it has
# its locks it may take its time.
MIGRATION_TIMEOUTS: Final = {"lock_timeout": "3s", "client_connection_check_interval": "5s"}
# psycopg2_gevent.Connection relies on READ COMMITTED being the default.
SESSION: Final = {"timezone": "UTC", "default_transaction_isolation": r"read\ committed"}
CONNECT_SECONDS: Final = 2


def make_engine(database_url: str, *, timeouts: Mapping[str, str], **pooling: Any) -> Engine:
    """Return an engine in autocommit mode whose connections obey `timeouts`; none is opened yet.

    A connection that the server has closed meanwhile, by a restart for instance, is replaced
    when it is taken out of the pool: this costs a microsecond, and SQLAlchemy's own ping 200.
    """
    url = make_url(database_url)
    given = url.query.get("options", ())
    options = [given] if isinstance(given, str) else list(given)
    options += [f"-c {name}={value}" for name, value in {**SESSION, **timeouts}.items()]
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        # Parameters are personal values, and error messages go to logs.
        hide_parameters=True,
        # It would ask for the type's id on each new connection.
        use_native_hstore=False,
        connect_args={
            "connection_factory": Connection,
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 30,
            "application_name": "bursar",
            "options": " ".join(options),
        },
        **pooling,
    )
    event.listen(engine, "checkout", _refuse_stale)
    return engine


def _refuse_stale(connection: Connection, _record: object, _proxy: object) -> None:
    new, connection.new = connection.new, False
    if not connection.is_stale():
        return
    if new:
        # Another one would end as soon, and when SQLAlchemy has tried enough of them it raises what
        # reads as a mistake of ours. This is a fault of the network or the server, which passes.
        raise OperationalError("the server closed a new connection at once")
    raise DisconnectionError("the server closed this connection")
