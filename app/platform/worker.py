"""The gunicorn worker: gevent's, with one write per answer, fair turns, and a stop that ends.

Only methods that gunicorn means to be overridden are. Its own gevent worker holds idle keep-alive
connections for the whole graceful time when it stops, resets those that it hasn't accepted yet,
and drops running requests on Ctrl-C.
"""

import signal
import socket
import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from logging import NOTSET
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.ggevent import GeventWorker

from app.platform import deadlines, health, logging, overload, startup
from app.platform.answering import Answering
from app.platform.connection import Connection, limit_buffers
from app.platform.connections import Connections
from app.platform.deadlines import RequestDeadline

# While it stops, a worker still accepts for a moment: clients that come just now are served. What a
# balancer needs to look elsewhere is another time: the master waits for it (master.py).
ACCEPT_SECONDS = 0.5
# What a client has on its way on a kept connection, when the listener closes, is still answered.
IDLE_GRACE_SECONDS = 0.3
PAUSE_SECONDS = 0.1
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
# The worker must be done before the master kills it at graceful_timeout, without a log line: cut
# requests clean up, the pool is closed, and what is left for Sentry is sent.
CLEAN_UP_SECONDS = 3.0
CUT_BEFORE_KILL_SECONDS = CLEAN_UP_SECONDS + startup.CLOSE_POOL_SECONDS + startup.FLUSH_SECONDS
# One Ctrl-C reaches a worker twice: from the terminal, and from the master.
SAME_KEYPRESS_SECONDS = 1.0
# What the kernel tells of a listener: 24 bytes in, how many connections wait to be accepted.
LISTENER = struct.Struct("@24xI")
_NO_TIMER = nullcontext()
log = logging.get_logger(__name__)


@dataclass(frozen=True)
class Listener:
    """The address of a listener; a connection asks for it when the listener may be closed."""

    name: Any

    def getsockname(self) -> Any:
        """Return the address, as a socket does."""
        return self.name


class Server(StreamServer):
    """Accepts a worker's share of the connections that wait.

    gevent takes a fixed number whenever its loop comes round: with many, a burst is all for one
    worker, and with one, a busy worker takes thirty a second while hundreds wait.
    """

    max_accept = workers = 1

    def do_read(self) -> Any:
        """Accept a connection, and let as many be accepted next time as are this worker's share."""
        accepted = super().do_read()
        self.max_accept = max(1, -(-self._waiting() // self.workers))
        return accepted

    def _waiting(self) -> int:
        """Ask the kernel how many connections wait; other than on Linux's TCP it doesn't tell."""
        try:
            told = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LISTENER.size)
        except (AttributeError, OSError):
            return 0
        return int(LISTENER.unpack(told)[0])


class Worker(GeventWorker):
    """A gevent worker that is fair to its clients and stops without losing or waiting for any."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the worker, still in the master."""
        super().__init__(*args, **kwargs)
        self._connections = Connections(self.worker_connections)
        self._answered: set[Any] = set()
        self._asked_to_stop: float | None = None
        self._in_a_hurry = False
        # The master's queue of signals, as the fork has copied it; gunicorn.conf.py sets it.
        self.early_signals: Any = None

    def run(self) -> None:
        """Serve until `alive` is set to False: by a signal, the reloader or a limit of gunicorn."""
        if self._missed_a_stop():
            self.alive = False
        servers = [self._serve(listener) for listener in self.sockets]
        while self.alive:
            self._pause()
        began = monotonic()
        overload.stop()
        for request in self._answered:
            request.force_close()
        while monotonic() < began + ACCEPT_SECONDS:
            self._pause()
        for server in servers:
            _accept_the_rest(server)
            server.close()
        self._finish(servers, began)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop gracefully on Ctrl-C as well; a second one ends what still runs."""
        now = monotonic()
        if self._asked_to_stop is None:
            self._asked_to_stop = now
        self._in_a_hurry = now - self._asked_to_stop > SAME_KEYPRESS_SECONDS
        self.alive = False

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """Set no timer for each request: `_pause` ends the connections whose time is over."""
        return _NO_TIMER

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, and know what it waits for."""
        connection = Connection(client, keep_seconds=self.cfg.keepalive)
        self._connections.add(connection)
        try:
            super().handle(listener, connection, addr)
        finally:
            self._connections.discard(connection)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request; then let the other greenlets have their turn."""
        sock.begin_answer(req.method, req.path)
        self._answered.add(req)
        if health.stop_is_announced():
            # The client's next request shall go to a server that stays.
            req.force_close()
        answering = Answering(sock, req)
        try:
            super().handle_request(listener_name, req, answering, addr)
        except RequestDeadline:
            # Cut while the answer was being sent: the client must see that it is incomplete.
            raise StopIteration from None
        finally:
            self._answered.discard(req)
            try:
                answering.finish()
            finally:
                overload.let_in_soon()
                # A request without I/O never yields: one busy client would starve all others
                # (p99 363 ms instead of 25 ms at 64 connections).
                gevent.sleep(0)
                sock.end_answer(buffered=req.unreader.buf.tell() > 0)

    def load_wsgi(self) -> None:
        """Load the application; while one is developing, a mistake in it doesn't end the service.

        The next change of a file brings another try.
        """
        try:
            super().load_wsgi()
        except Exception:
            if not self.cfg.reload:
                raise
            log.exception("application_not_loaded")
            self.wsgi = _not_loaded

    def _missed_a_stop(self) -> bool:
        """Tell whether a stop was asked for before this process had handlers of its own.

        Until then a signal only reaches this process's copy of the master's queue. Unnoticed, the
        stop would hang until the master kills the worker.
        """
        early = []
        while self.early_signals is not None and not self.early_signals.empty():
            early.append(self.early_signals.get_nowait())
        return not STOP_SIGNALS.isdisjoint(early)

    def _serve(self, listener: Any) -> StreamServer:
        """Accept connections on a listener, each in a greenlet of its own."""
        listener.setblocking(1)
        limit_buffers(listener)
        pool = Pool(self.worker_connections)
        named = Listener(listener.getsockname())
        server = Server(listener, handle=partial(self.handle, named), spawn=pool)
        server.workers = self.cfg.workers
        server.start()
        return server

    def _finish(self, servers: list[StreamServer], began: float) -> None:
        """Let running requests end; close what is idle, and cut what would outlast the stop.

        A worker that only makes room for another one is in no hurry to close: a request may be on
        its way just then, and would be lost. Meanwhile each answer sends its client to the others.
        """
        closed_at, patience = monotonic(), 0.0
        if not health.stop_is_announced():
            patience = startup.settings_or_exit().server_drain_seconds
        cut_at = began + patience + self.cfg.graceful_timeout - CUT_BEFORE_KILL_SECONDS
        while any(server.pool for server in servers):
            now = monotonic()
            hurry = health.stop_is_announced()
            grace = IDLE_GRACE_SECONDS if hurry else max(IDLE_GRACE_SECONDS, patience)
            if now - closed_at >= grace:
                for connection in self._connections.waiting_since(now - grace):
                    connection.hang_up()
            if now >= cut_at or self._in_a_hurry:
                cut_at, self._in_a_hurry = inf, False
                log.warning("requests_cut", running=deadlines.cut_all())
                overload.cut_all()
            self._pause()

    def _pause(self) -> None:
        """Let requests run for a moment, tell the master that this worker lives, and tidy up."""
        self.notify()
        self._connections.end_overdue()
        overload.report()
        gevent.sleep(PAUSE_SECONDS)


class Logger(GunicornLogger):
    """gunicorn's own messages, on the way that all other log lines take."""

    def setup(self, cfg: Any) -> None:
        """Leave format, place and level to the settings."""
        super().setup(cfg)
        self.error_log.propagate = True
        self.error_log.setLevel(NOTSET)
        self._refusal = ""

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Write a message; of an address that can't be listened at, one line and not eleven.

        gunicorn tries five times, a second apart, and only tells at each of them why it fails.
        """
        text = str(msg)
        if text.startswith(("Connection in use", "Invalid address")):
            return
        if text.startswith("connection to "):
            self._refusal = text.rpartition(" failed: ")[2]
        elif text.startswith("Can't connect to "):
            advice = "Free the port, or correct APP_SERVER_HOST or APP_SERVER_PORT."
            address = str(*args)
            log.critical("cannot_listen", address=address, reason=self._refusal, advice=advice)
        else:
            super().error(msg, *args, **kwargs)


def _not_loaded(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    text = b"The application could not be loaded; the log says why.\n"
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [text]


def _accept_the_rest(server: StreamServer) -> None:
    """Take what waits in the listener's queue: closing it would reset these connections."""
    while not server.full() and (accepted := server.do_read()) is not None:
        server.do_handle(*accepted)
