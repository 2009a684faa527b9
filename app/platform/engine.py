"""How this service speaks to PostgreSQL: its driver, its time limits, and what no log ever sees."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from psycopg2 import OperationalError
from sqlalchemy import Dialect, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError

from app.platform.psycopg2_gevent import Connection
from app.platform.statements import Cursor

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
SESSION: Final = {"timezone": "UTC", "default_transaction_isolation": "read committed"}
# For each of the hosts that the URL names.
CONNECT_SECONDS: Final = 2
# The server has become a standby, which passes: the pool finds the new one, or it is promoted.
READ_ONLY: Final = "25006"


def make_engine(
    database_url: str, *, timeouts: Mapping[str, str], pooler: bool = False, **pooling: Any
) -> Engine:
    """Return an engine in autocommit mode whose connections obey `timeouts`; none is opened yet.

    With a `pooler` in between connections can't say what they obey: the role has to, and
    server_state.py sees to that. Of several hosts that the URL names the first good one counts.

    A connection that the server has closed meanwhile, by a restart for instance, is replaced
    when it is taken out of the pool: this costs a microsecond, and SQLAlchemy's own ping 200. So
    are all of them when the server refuses a write because it has become a standby.
    """
    url = make_url(database_url)
    given = url.query.get("options", ())
    options = [given] if isinstance(given, str) else list(given)
    if not pooler:
        options += [f"-c {name}={_escaped(text)}" for name, text in {**SESSION, **timeouts}.items()]
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        # Parameters are personal values, and error messages go to logs.
        hide_parameters=True,
        # It would ask for the type's id on each new connection.
        use_native_hstore=False,
        connect_args={
            "connection_factory": Connection,
            "cursor_factory": Cursor,
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 30,
            "application_name": "bursar",
            **({"options": " ".join(options)} if options else {}),
        },
        **pooling,
    )
    event.listen(engine, "checkout", _refuse_stale)
    event.listen(engine, "handle_error", _leave_standby)
    _, keywords = engine.dialect.create_connect_args(url)
    hosts = str(keywords.get("host", "")).split(",")
    if len(hosts) > 1:
        ports = str(keywords.get("port", "")).split(",")
        event.listen(engine, "do_connect", _first_good(hosts, ports))
    return engine


def _escaped(text: str) -> str:
    """Return a value as the start-up parameter `options` takes it."""
    return text.replace(" ", r"\ ")


def _first_good(hosts: list[str], ports: list[str]) -> Callable[..., Any]:
    """Return what connects to one of several hosts: the one that was good last comes first.

    libpq would do it, but without blocking it has no time limit, so a machine that vanished would
    keep it from ever asking the next one.
    """
    # One port, or none, counts for all hosts.
    places = list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True))

    def connect(dialect: Dialect, _record: object, given: Any, keywords: dict[str, Any]) -> Any:
        failed: list[OperationalError] = []
        for place in tuple(places):
            host, port = place
            try:
                return dialect.connect(*given, **keywords | {"host": host, "port": port or None})
            except BaseException as fault:
                # `/ready` ends what takes it longer than a second, and must come to the next host
                # all the same: while it fails nobody else is sent here to ask.
                if places[0] is place:
                    places.append(places.pop(0))
                if not isinstance(fault, OperationalError):
                    raise
                failed.append(fault)
        raise failed[-1]

    return connect


def _leave_standby(context: ExceptionContext) -> None:
    if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
        # The name, or the pooler, may lead to the new primary already.
        context.is_disconnect = True


def _refuse_stale(connection: Connection, _record: object, _proxy: object) -> None:
    new, connection.new = connection.new, False
    if not connection.is_stale():
        return
    if new:
        # Another one would end as soon, and when SQLAlchemy has tried enough of them it raises what
        # reads as a mistake of ours. This is a fault of the network or the server, which passes.
        raise OperationalError("the server closed a new connection at once")
    raise DisconnectionError("the server closed this connection")
