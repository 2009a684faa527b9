"""Lets psycopg2 wait for the database without stopping the other requests of a gevent worker.

psycopg2 calls `wait` whenever the server owes it bytes. Each connection keeps one read watcher
for life instead of making one per statement (it saves 20 to 30 µs), and that watcher also notices
when the server hangs up on a connection that lies idle in the pool.
"""

import select
import weakref
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

from gevent import get_hub, getcurrent, monkey
from gevent.socket import wait_read, wait_write
from greenlet import greenlet
from psycopg2 import OperationalError
from psycopg2.extensions import (
    ISOLATION_LEVEL_AUTOCOMMIT,
    ISOLATION_LEVEL_READ_COMMITTED,
    POLL_OK,
    POLL_WRITE,
    STATUS_BEGIN,
    connection,
    get_wait_callback,
    parse_dsn,
    set_wait_callback,
)

from app.platform import statements

# Above the server's own statement_timeout: it only cuts what the server can't, a dead network.
# Without it a silent server would hold every connection of the pool for ever.
STATEMENT_SECONDS: Final = 12.0
CONNECT_SECONDS: Final = 3.0
SWEEP_SECONDS: Final = 0.25

# The patched poll() would switch greenlets; this one only asks the kernel, in about a microsecond.
_poll = monkey.get_original("select", "poll")


class Connection(connection):
    """A psycopg2 connection that knows its watcher, its limit, and whether the server hung up.

    It is `new` until somebody who takes it from a pool says otherwise.

    It works without gevent as well: then nothing ever waits here, and psycopg2 blocks.
    """

    def __init__(self, dsn: str, *args: Any, **kwargs: Any) -> None:
        """Connect within `connect_timeout` of the DSN.

        Raises psycopg2.OperationalError.
        """
        self.watcher: Any = None
        self.waiting: greenlet | None = None
        self.hung_up = False
        self.established = False
        self.new = True
        # libpq ignores connect_timeout when it connects without blocking, so `wait` enforces it.
        self.limit = float(parse_dsn(dsn).get("connect_timeout", CONNECT_SECONDS))
        super().__init__(dsn, *args, **kwargs)
        self.limit = STATEMENT_SECONDS
        self.established = True

    def set_isolation_level(self, level: int | None) -> None:
        """Switch between autocommit and transactions without a word to the server.

        psycopg2 would send a `SET default_transaction_isolation` at each switch back from
        autocommit: one more round trip for every transaction, and behind a transaction pooler a
        setting that leaks to other clients. READ COMMITTED is the default of our connections
        already, so only the client's flag has to change. As psycopg2 does, a transaction that is
        open is rolled back.

        Raises psycopg2.Error.
        """
        if self.status == STATUS_BEGIN:
            self.rollback()
        if level == ISOLATION_LEVEL_AUTOCOMMIT:
            self.autocommit = True
        elif level == ISOLATION_LEVEL_READ_COMMITTED:
            self.autocommit = False
        else:
            super().set_isolation_level(level)

    def commit(self) -> None:
        """Commit, which is timed and traced as statements are.

        Raises psycopg2.Error.
        """
        end = super().commit
        if self.status == STATUS_BEGIN:
            statements.run_commit(self, end)
        else:
            end()

    def is_stale(self) -> bool:
        """Tell whether the connection has ended, or holds bytes that nobody asked for.

        An idle server is silent, so whatever can be read is its good-bye (or a notice: then one
        connection is replaced for nothing). Only for a connection that no one is using.
        """
        if self.hung_up or self.closed:
            return True
        # The event loop may not have run since the good-bye arrived; the kernel knows already.
        poll = _poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def until_readable(self, deadline: float) -> None:
        """Wait on the kept watcher until the server has sent something.

        Raises psycopg2.OperationalError after the deadline.
        """
        if self.watcher is None:
            self.watcher = get_hub().loop.io(self.fileno(), 1)
            # A started watcher keeps its arguments alive: a strong reference to the connection
            # would keep one that was lost from ever being collected.
            self.watcher.start(_readable, weakref.ref(self))
        self.waiting = getcurrent()
        _deadlines[self] = deadline
        try:
            get_hub().switch()
        finally:
            self.waiting = None
            del _deadlines[self]

    def stop_watching(self) -> None:
        """Give the watcher back to the event loop, before the descriptor can be reused."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def close(self) -> None:
        """Close the connection and its watcher."""
        self.stop_watching()
        super().close()

    def __del__(self) -> None:
        """Stop the watcher of a connection that was lost without being closed."""
        self.stop_watching()


class Spent:
    """The time that the database has taken, in seconds, of what runs in one context."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        """Start at nothing."""
        self.seconds = 0.0


_spent: ContextVar[Spent | None] = ContextVar("spent", default=None)
_deadlines: dict[Connection, float] = {}
_sweeper: Any = None


def add_up() -> Spent:
    """Add up what the database takes of this context from now on, as a worker sees it.

    That is from sending a statement, or connecting, until the greenlet goes on with the answer.
    Without the wait callback nothing is added.
    """
    spent = Spent()
    _spent.set(spent)
    return spent


def install() -> None:
    """Make psycopg2 cooperate with gevent in this process; once, after the fork.

    A second call changes nothing. Connections must be made by `Connection`. COPY and large
    objects don't work in this mode.
    """
    global _sweeper
    if is_installed():
        return
    # One timer for all waiting statements costs less than one timer for each.
    _sweeper = get_hub().loop.timer(SWEEP_SECONDS, SWEEP_SECONDS, ref=False)
    _sweeper.start(_sweep)
    set_wait_callback(wait)


def is_installed() -> bool:
    """Tell whether psycopg2 gives way to other greenlets; without it one query stops a worker."""
    return get_wait_callback() is wait


def wait(waiting: Connection) -> None:
    """Let others run until the server has answered the statement, or the connection stands.

    The deadline counts from here, so for the statement as a whole, however often it is woken.
    Any exception, a killed greenlet's too, makes psycopg2 close the connection: nobody is ever
    handed one with a statement still running.

    Raises psycopg2.OperationalError after the deadline or when the connection is lost.
    """
    began = monotonic()
    deadline = began + waiting.limit
    try:
        while (state := waiting.poll()) != POLL_OK:
            if waiting.established and state != POLL_WRITE:
                waiting.until_readable(deadline)
            else:
                # While connecting, libpq may change to another descriptor between two steps,
                # so nothing is kept. A statement is written in one go, except for a very long one.
                ready = wait_write if state == POLL_WRITE else wait_read
                left = max(deadline - monotonic(), 0.001)
                ready(waiting.fileno(), timeout=left, timeout_exc=_out_of_time())
    except BaseException:
        # psycopg2 closes the descriptor without calling `close`, and a watcher on a descriptor
        # that the next connection reuses would wake the wrong greenlet.
        waiting.stop_watching()
        raise
    finally:
        spent = _spent.get()
        if spent is not None:
            spent.seconds += monotonic() - began


def _readable(reference: "weakref.ref[Connection]") -> None:
    watched = reference()
    if watched is None:
        return
    if watched.waiting is not None:
        watched.waiting.switch()
    else:
        watched.hung_up = True
        watched.stop_watching()


def _sweep() -> None:
    # This runs in the hub: no greenlet moves between the look and the throw.
    now = monotonic()
    for late in [waiting for waiting, deadline in _deadlines.items() if deadline < now]:
        if late.waiting is not None and _deadlines.get(late, now) < now:
            late.waiting.throw(_out_of_time())


def _out_of_time() -> OperationalError:
    return OperationalError("the database did not answer in time")
