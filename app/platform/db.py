"""Gives every feature its way to the database: reads, snapshots and transactions on one pool.

`reading()` is for one statement, `snapshot()` for several that must agree, `transaction()` for
changes, `trial()` for changes that are only tried, `first_row()` for the one read of every request.
Each holds a connection until it is left, so none of them is opened inside another, and nothing slow
(hashing, mail, HTTP) happens inside.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, ClassVar, Final

import psycopg2
from gevent import monkey
from sqlalchemy import BigInteger, Connection, DateTime, Engine, MetaData, NullPool, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from app.platform import psycopg2_gevent, statements
from app.platform.engine import MIGRATION_TIMEOUTS, READ_ONLY, TIMEOUTS, make_engine
from app.platform.errors import Unavailable
from app.platform.logging import get_logger
from app.platform.settings import Settings
from app.platform.turns import Turns

# The share of one worker: what the server allows, less some for people, probes and `flask worker`.
RESERVED_CONNECTIONS: Final = 10
FEWEST_CONNECTIONS: Final = 2
MOST_CONNECTIONS: Final = 20
# PostgreSQL's own default, assumed while the server can't be asked.
ASSUMED_SERVER_LIMIT: Final = 100

RETRYABLE: Final = frozenset({"40001", "40P01"})
# A limit of PostgreSQL itself, such as an index row that is too large: repeating never helps.
PROGRAM_LIMIT_CLASS: Final = "54"
# Where a session keeps what is to be called once its transaction is committed.
_CALLS: Final = "after_commit"
log = get_logger(__name__)


class Base(DeclarativeBase):
    """The parent of all tables; names every constraint, so that code and tests can rely on it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        datetime: DateTime(timezone=True),
    }


@dataclass(frozen=True, slots=True)
class _Pool:
    reads: Engine
    transactions: Engine
    turns: Turns
    size: int
    patience: float


_pool: _Pool | None = None


def open_pool(settings: Settings, *, size: int | None = None) -> None:
    """Open this process's pool, and as many connections as the settings want from the start.

    Once per process and after the fork: two processes on one connection get each other's answers.
    A database that is down doesn't hinder it, connections are then made when they are needed.

    Raises RuntimeError when a pool is open, or when gevent is at work without the wait callback.
    """
    global _pool
    if _pool is not None:
        raise RuntimeError("the pool is open already in this process")
    if monkey.is_module_patched("socket") and not psycopg2_gevent.is_installed():
        raise RuntimeError("psycopg2 would stop the whole worker: install the wait callback first")
    statements.watch(settings)
    size = size or settings.database_max_connections or pool_size(settings, server_limit(settings))
    engine = make_engine(
        settings.database_url,
        timeouts=TIMEOUTS,
        pooler=settings.database_pooler,
        pool_size=size,
        max_overflow=0,
        pool_timeout=settings.database_acquire_timeout,
        # The connections used last are warm, and those that aren't needed stay idle.
        pool_use_lifo=True,
    )
    _pool = _Pool(
        # Autocommit is what connections are left in: reads are most of all, and pay for no switch.
        reads=engine,
        transactions=engine.execution_options(isolation_level="READ COMMITTED"),
        turns=Turns(size),
        size=size,
        patience=settings.database_acquire_timeout,
    )
    with ExitStack() as opened:
        try:
            for _ in range(min(settings.database_min_connections, size)):
                opened.enter_context(engine.connect())
        except DBAPIError:
            # The service starts all the same, and `/ready` says that the database is away.
            return


def close_pool(timeout: float) -> None:
    """Close the pool once its connections are back, or after `timeout` seconds."""
    global _pool
    pool = _pool
    if pool is None:
        return
    end = monotonic() + timeout
    # Taking all the turns waits for those who are at work, and lets nobody start.
    for _ in range(pool.size):
        if not pool.turns.take(max(end - monotonic(), 0)):
            break
    _pool = None
    pool.reads.dispose()


def pool_is_open() -> bool:
    """Tell whether this process has a pool; it must not before it forks."""
    return _pool is not None


def pool_is_full() -> bool:
    """Tell whether a newcomer would wait for a connection behind others that do."""
    return _pool is not None and _pool.turns.are_full()


def pool_size(settings: Settings, limit: int | None) -> int:
    """Return one worker's share of the server's `limit` connections, between 2 and 20."""
    share = ((limit or ASSUMED_SERVER_LIMIT) - RESERVED_CONNECTIONS) // settings.server_workers
    return min(max(share, FEWEST_CONNECTIONS), MOST_CONNECTIONS)


@contextmanager
def transaction() -> Iterator[Session]:
    """Give a session whose changes are committed on leaving, or rolled back on any exception.

    Objects stay readable afterwards. A COMMIT whose outcome is unknown is never repeated.

    Raises Unavailable.
    """
    with trial() as session:
        yield session
        session.commit()
    for call in session.info.get(_CALLS, ()):
        try:
            call()
        except Exception:
            # The changes are there, whatever becomes of telling about them.
            log.exception("call_after_commit_failed")


@contextmanager
def trial() -> Iterator[Session]:
    """Give a session like that of `transaction` whose changes are rolled back on leaving.

    Raises Unavailable.
    """
    with _turn() as pool, _faults(), Session(pool.transactions, expire_on_commit=False) as session:
        yield session


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Have `call` run once the session's transaction is committed, and never when it isn't.

    It is for telling of changes, in metrics and logs. The connection is back in the pool by then.
    """
    session.info.setdefault(_CALLS, []).append(call)


@contextmanager
def snapshot() -> Iterator[Session]:
    """Give a session that can't write and whose statements all see the same moment.

    Raises Unavailable.
    """
    with trial() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield session


@contextmanager
def reading() -> Iterator[Connection]:
    """Give a connection for one statement, which is one round trip: there is no transaction.

    Raises Unavailable.
    """
    with _turn() as pool, _faults(), pool.reads.connect() as connection:
        yield connection


def first_row(statement: str, parameters: Mapping[str, Any]) -> Any:
    """Return the first row of one plain SQL statement as a named tuple, or None; one round trip.

    The statement is a transaction of its own, so it may also make the one change that there is.
    For what every request or every refresh needs: around a small statement SQLAlchemy's connection
    and result cost more than the statement (60 to 120 µs). Parameters are written `%(name)s`.

    Raises Unavailable.
    """
    with _turn() as pool:
        try:
            borrowed = pool.reads.raw_connection()
            try:
                with closing(borrowed.cursor(cursor_factory=statements.NamedCursor)) as cursor:
                    cursor.execute(statement, parameters)
                    row = cursor.fetchone()
            except BaseException:
                # A killed request may leave its statement running: nobody else gets the connection.
                borrowed.invalidate()
                raise
            borrowed.close()
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as fault:
            raise Unavailable from fault
        except psycopg2.errors.ReadOnlySqlTransaction as fault:
            raise Unavailable from fault
    return row


def is_retryable(error: BaseException) -> bool:
    """Tell a deadlock or a serialization failure: nothing was changed, all of it may be repeated.

    Sees through the Unavailable that `transaction` makes of it.
    """
    fault = error.__cause__ if isinstance(error, Unavailable) else error
    return isinstance(fault, DBAPIError) and _sqlstate(fault) in RETRYABLE


@contextmanager
def one_connection(settings: Settings, *, migration: bool = False) -> Iterator[Connection]:
    """Give one autocommit connection outside of the pool, for commands and start-up checks.

    With `migration` it is the tables' owner, whose statements may take as long as they need.

    Raises sqlalchemy.exc.OperationalError.
    """
    url = settings.database_migration_url if migration else settings.database_url
    timeouts = MIGRATION_TIMEOUTS if migration else TIMEOUTS
    # Migrations go around a pooler: they hold their lock for as long as the connection lives.
    pooler = settings.database_pooler and not migration
    engine = make_engine(url, timeouts=timeouts, pooler=pooler, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def server_limit(settings: Settings) -> int | None:
    """Return the server's `max_connections`, or None when it doesn't answer within 2 seconds."""
    try:
        with one_connection(settings) as connection:
            return int(connection.execute(text("SHOW max_connections")).scalar_one())
    except DBAPIError:
        return None


@contextmanager
def _turn() -> Iterator[_Pool]:
    pool = _pool
    if pool is None:
        raise RuntimeError("the pool isn't open in this process")
    if not pool.turns.take(pool.patience):
        raise Unavailable("The database is busy. Repeat the request in a moment.")
    try:
        yield pool
    finally:
        pool.turns.give_back()


@contextmanager
def _faults() -> Iterator[None]:
    """Turn what passes by itself into Unavailable, with the fault as its cause: here alone.

    Raises Unavailable; a mistake in a statement or a violated constraint passes.
    """
    try:
        yield
    except DBAPIError as fault:
        passing = isinstance(fault, OperationalError | InterfaceError)
        # The others are for what psycopg2 files elsewhere, such as an idle transaction's end.
        passing = passing or fault.connection_invalidated or _sqlstate(fault) == READ_ONLY
        if passing and not _sqlstate(fault).startswith(PROGRAM_LIMIT_CLASS):
            raise Unavailable from fault
        raise


def _sqlstate(fault: DBAPIError) -> str:
    return getattr(fault.orig, "pgcode", None) or ""
