"""The gunicorn worker: gevent's, with one write per answer, fair turns, and a stop that ends.

Only gunicorn's public hooks are overridden. gunicorn's own gevent worker holds idle keep-alive
connections for the whole graceful time when it stops, and drops running requests on Ctrl-C.
"""

import errno
import socket
from logging import NOTSET
from math import inf
from time import monotonic
from typing import Any

import gevent
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.ggevent import GeventWorker

from app.platform import deadlines, health, logging
from app.platform.deadlines import RequestDeadline

# A stream ends when the client takes nothing for this long.
SEND_SECONDS = 30.0
# After a refused body the rest is read and dropped: closing at once would reset the connection,
# and the client, still sending, would never see the answer. Both limits keep that from lasting.
LINGER_SECONDS = 5.0
LINGER_BYTES = 32 << 20
# What a client has on its way when the stop begins still gets an answer.
IDLE_GRACE_SECONDS = 0.3
# The worker must be done before the master kills it at graceful_timeout, without a log line.
CUT_BEFORE_KILL_SECONDS = 3.0
# One Ctrl-C reaches a worker twice: from the terminal, and from the master.
SAME_KEYPRESS_SECONDS = 1.0
log = logging.get_logger(__name__)


class Answering:
    """A client's socket while a request is answered; `gunicorn.socket` in the environ.

    The head of the answer waits for the first bytes of the body, and both leave in one write:
    that spares a system call, and a client a wake-up.
    """

    def __init__(self, client: Any, request: Any) -> None:
        """Wrap the socket for one request."""
        self._client, self._request = client, request
        self._head: bytes | None = b""
        self._hangs_up = False

    def sendall(self, data: bytes) -> None:
        """Send, or keep the head until more comes.

        Raises ConnectionResetError when the client takes nothing for SEND_SECONDS.
        """
        if self._head is None:
            self._send(data)
        elif self._head:
            head, self._head = self._head, None
            self._send(head + data)
        else:
            self._head = data

    def flush(self) -> None:
        """Send what is kept; afterwards everything is sent at once."""
        head, self._head = self._head, None
        if head:
            self._send(head)

    def hang_up_after_answer(self) -> None:
        """Answer with `Connection: close`: the next request's start can't be known."""
        self._request.force_close()
        self._hangs_up = True

    def finish(self) -> None:
        """Send what is kept; before hanging up, read and drop what the client still sends."""
        self.flush()
        if not self._hangs_up:
            return
        end, left = monotonic() + LINGER_SECONDS, LINGER_BYTES
        try:
            self._client.shutdown(socket.SHUT_WR)
            while left > 0 and (seconds := end - monotonic()) > 0:
                self._client.settimeout(seconds)
                data = self._client.recv(65536)
                if not data:
                    break
                left -= len(data)
        except OSError:
            return

    def _send(self, data: bytes) -> None:
        # `sendall` of the socket counts its timeout over the whole; here each piece that the
        # client takes starts it anew.
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._client.send(rest) :]
        except TimeoutError as error:
            raise ConnectionResetError(errno.ECONNRESET, "the client takes nothing") from error

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._client, name)


class Worker(GeventWorker):
    """A gevent worker. Setting `alive` to False begins its stop, whoever does it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the worker, still in the master."""
        self._idle: dict[Any, float] = {}
        self._answered: set[Any] = set()
        self._stop_began: float | None = None
        super().__init__(*args, **kwargs)

    @property
    def alive(self) -> bool:
        """Tell whether the worker takes new connections."""
        return self._stop_began is None

    @alive.setter
    def alive(self, value: bool) -> None:
        # A property, because signals, the reloader and gunicorn's limits all just set it.
        if value or self._stop_began is not None:
            return
        self._stop_began = monotonic()
        health.announce_stop()
        for request in self._answered:
            request.force_close()
        gevent.spawn(self._drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop gracefully on Ctrl-C as well; a second one ends what still runs."""
        if self._stop_began is None:
            self.alive = False
        elif monotonic() - self._stop_began > SAME_KEYPRESS_SECONDS:
            gevent.spawn(self._cut)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, and know when it is idle."""
        self._idle[client] = monotonic()
        try:
            super().handle(listener, client, addr)
        finally:
            self._idle.pop(client, None)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request; then let the other greenlets have their turn."""
        self._idle.pop(sock, None)
        self._answered.add(req)
        sock.settimeout(SEND_SECONDS)
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
                sock.settimeout(None)
                # A request without I/O never yields: one busy client would starve all others
                # (p99 363 ms instead of 25 ms at 64 connections).
                gevent.sleep(0)
                self._idle[sock] = monotonic()

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

    def _drain(self) -> None:
        """Close idle connections, and cut what would outlast the stop, until the process ends."""
        began = monotonic()
        cut_at = began + self.cfg.graceful_timeout - CUT_BEFORE_KILL_SECONDS
        while True:
            now = monotonic()
            for client, since in list(self._idle.items()):
                if now - max(since, began) >= IDLE_GRACE_SECONDS:
                    _stop_reading(client)
            if now >= cut_at:
                cut_at = inf
                self._cut()
            gevent.sleep(0.1)

    def _cut(self) -> None:
        """End all running requests: those that have not begun to answer become 503."""
        running = deadlines.cut_all()
        if running:
            log.warning("requests_cut", running=running)


class Logger(GunicornLogger):
    """gunicorn's own messages, on the way that all other log lines take."""

    def setup(self, cfg: Any) -> None:
        """Leave format, place and level to the settings."""
        super().setup(cfg)
        self.error_log.propagate = True
        self.error_log.setLevel(NOTSET)


def _not_loaded(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    text = b"The application could not be loaded; the log says why.\n"
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [text]


def _stop_reading(client: Any) -> None:
    """End an idle connection. What has arrived already is still read, and answered."""
    try:
        client.shutdown(socket.SHUT_RD)
    except OSError:
        return
