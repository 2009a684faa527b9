"""Keeps a slow client from holding what others need: by limits of time, and by waiting unread.

A connection waits for its client in three ways: between requests, within a request's head or body,
and while the client takes an answer. Each costs memory and one of the worker's connections and
nothing else, so limits may be generous; what ends a flood of slow clients is in connections.py.
"""

import errno
import os
import socket
from math import inf
from time import monotonic
from typing import Any

from gevent import get_hub, getcurrent

from app.platform import overload

# From the first byte of a request's head to its last, and from a new connection's start to that.
HEAD_SECONDS = 10.0
# A stream ends when the client takes nothing for this long, or less than a slow telephone could.
SEND_SECONDS = 30.0
SLOWEST_BYTES_PER_SECOND = 4096
# The kernel takes no more of an answer than this beyond what is on its way to the client. Otherwise
# it takes megabytes for a slow reader, and two hundred of them keep everybody waiting for seconds.
UNSENT_BYTES = 64 * 1024
# With this gevent wakes a greenlet that waits on a socket when another one shuts it down.
HUNG_UP = errno.EBADF
# As gevent's event loop calls it.
READ = 1


def limit_buffers(listener: Any) -> None:
    """Have the kernel hold little for each client of a listener; other than by TCP it can't."""
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class Connection:
    """A client's socket as gunicorn's parser sees it, and what is known of the client.

    `since` is the moment from which it waits for its client, `inf` while it doesn't; at `ends` the
    wait is over. `waited` is how many seconds its request lay unread, and `is_refused` says that it
    has to be answered with a refusal.
    """

    __slots__ = (
        "_between", "_client", "_file", "_had_turn", "_in_line", "_keep_seconds", "_reader",
        "_sending", "_size", "_watcher", "ends", "is_refused", "since", "unread", "waited",
    )  # fmt: skip

    def __init__(self, client: Any, *, keep_seconds: float) -> None:
        """Wrap a new connection, which may be idle for `keep_seconds` between requests."""
        self._client, self._keep_seconds = client, keep_seconds
        self._between, self._sending, self.is_refused = True, False, False
        self._file: int = client.fileno()
        # The greenlet that waits for a request, and what tells of its first bytes.
        self._reader: Any = None
        self._size, self._in_line = 0, False
        self.unread, self.waited, self._had_turn = b"", 0.0, False
        self._watcher: Any = get_hub().loop.io(self._file, READ)
        self.since = monotonic()
        self.ends = self.since + HEAD_SECONDS

    def recv(self, size: int) -> bytes:
        """Return what the client sent; in a crowd whole requests are refused and not returned.

        Returns nothing when the client or a limit has ended the connection.
        """
        if self._between:
            return self._first_bytes(size)
        if self.since != inf:
            # The rest of a head, which counts as one wait however often a byte comes.
            self._has_no_turn()
            return self._receive(size)
        self.since = monotonic()
        data = self._receive(size)
        self.since = inf
        return data

    def begin_answer(self, method: str, path: str) -> None:
        """Note that the request's head is here; the edge has limits for what follows.

        In a crowd it waits for its turn, if it hasn't: it may have come in pieces, or behind
        another one.
        """
        self.since = self.ends = inf
        if not self._had_turn and overload.keep_waiting(self, f"{method} {path} ".encode()):
            self._reader, self._in_line = getcurrent(), True
            try:
                get_hub().switch()
            finally:
                self._reader, self._in_line = None, False
            self.since = self.ends = inf
        self._client.settimeout(SEND_SECONDS)

    def end_answer(self, *, buffered: bool) -> None:
        """Note that the client has its answer; `buffered` says that a next head has begun."""
        self._client.settimeout(None)
        self._between = not buffered
        self._has_no_turn()
        self.since = monotonic()
        self.ends = self.since + (HEAD_SECONDS if buffered else self._keep_seconds)

    def send_all(self, data: bytes) -> None:
        """Send, as long as the client takes enough of it.

        Raises ConnectionResetError when it doesn't.
        """
        # `sendall` of the socket counts its timeout over the whole; here each piece that the
        # client takes starts it anew.
        begun = self.since = monotonic()
        self._sending, rest = True, memoryview(data)
        try:
            while rest := rest[self._client.send(rest) :]:
                taken = len(data) - len(rest)
                if monotonic() - begun > SEND_SECONDS + taken / SLOWEST_BYTES_PER_SECOND:
                    raise TimeoutError
        except OSError as error:
            if not isinstance(error, TimeoutError) and error.errno != HUNG_UP:
                raise
            raise ConnectionResetError(errno.ECONNRESET, "the client takes too little") from error
        finally:
            self._sending, self.since = False, inf

    def admit(self, *, waited: float = 0.0, in_vain: bool = False) -> None:
        """Have the request read that lay unread so long, and refused if it is `in_vain`.

        Called in the event loop, as `refuse` and `end` are.
        """
        if self._reader is not None:
            self.waited, self.is_refused, self._had_turn = waited, in_vain, True
            now = monotonic()
            # After a pause the wait for the rest of a head begins anew.
            self.since, self.ends = min(self.since, now), now + HEAD_SECONDS
            self._reader.switch(self.unread)

    def refuse(self, answer: bytes, *, closes: bool) -> bool:
        """Send an answer to a request that wasn't read, and wait for the next one.

        Tells whether it was sent.
        """
        if self._reader is None:
            return False
        try:
            is_sent = os.write(self._file, answer) == len(answer)
        except OSError:
            is_sent = False
        # Who leaves no room for so little hasn't taken the answers before.
        if closes or not is_sent:
            self.end()
            return is_sent
        self.since = monotonic()
        self.ends = self.since + self._keep_seconds
        self._in_line, self.unread = False, b""
        if not self._watcher.active:
            self._watcher.start(self._arrived)
        return True

    def end(self) -> None:
        """End the connection: without an answer, or with a refusal if the request was read."""
        if self._reader is not None:
            self.unread, self.is_refused = b"", True
            self._reader.switch(b"")

    def close(self) -> None:
        """Close the client's socket."""
        self._watcher.close()
        self._client.close()

    def _first_bytes(self, size: int) -> bytes:
        """Return where a request begins, having waited for one that there is time for.

        The others are refused in the event loop: waking the greenlet for each costs twice as much.
        """
        self._reader, self._size = getcurrent(), size
        self._watcher.start(self._arrived)
        try:
            data: bytes = get_hub().switch()
        finally:
            self._reader, self._in_line, self.unread = None, False, b""
            self._watcher.stop()
        self._between = False
        return data

    def _arrived(self) -> None:
        """Look at what came; this runs in the event loop."""
        try:
            data = os.read(self._file, self._size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._in_line:
            # The rest of a request that waits for its turn. More than that, and the end, can wait.
            self.unread += data
            if not data or len(self.unread) >= self._size:
                self._watcher.stop()
            return
        self.unread = data
        try:
            is_kept = data and overload.keep_waiting(self, data)
        except BaseException:
            # gevent stops a watcher whose callback failed; nothing else would wake the greenlet.
            self.end()
            raise
        if is_kept:
            # Who waits for us doesn't keep us waiting, and has no room to make for others.
            self.since = self.ends = inf
            self._in_line = True
        else:
            self.admit()

    def _has_no_turn(self) -> None:
        """Have the next request wait for its own."""
        self._had_turn, self.is_refused, self.waited = False, False, 0.0

    def _receive(self, size: int) -> bytes:
        """Return what the client sent, and nothing when it or `hang_up` ended the connection."""
        try:
            return bytes(self._client.recv(size))
        except OSError as error:
            if error.errno != HUNG_UP:
                raise
        # What had arrived by then is still there; nothing more comes, so this doesn't wait.
        try:
            return bytes(self._client.recv(size))
        except OSError:
            return b""

    def hang_up(self) -> None:
        """End the wait. What has arrived already is still read, and answered."""
        try:
            self._client.shutdown(socket.SHUT_RDWR if self._sending else socket.SHUT_RD)
        except OSError:
            return

    # What else gunicorn and `Answering` use of a socket, for HTTP/1.1 without TLS. Named one by
    # one, because a class with `__getattr__` finds all of its attributes slowly.

    def settimeout(self, seconds: float | None) -> None:
        """Limit how long the client may take for what it sends or takes next."""
        self._client.settimeout(seconds)

    def gettimeout(self) -> float | None:
        """Return that limit in seconds, and None without one."""
        timeout: float | None = self._client.gettimeout()
        return timeout

    def setblocking(self, flag: bool) -> None:
        """Wait for the client from now on, or don't."""
        self._client.setblocking(flag)

    def shutdown(self, how: int) -> None:
        """Close one direction, or both."""
        self._client.shutdown(how)

    def send(self, data: bytes) -> int:
        """Send what the client takes at once, and return how many bytes that were."""
        return int(self._client.send(data))

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._client.sendall(data)
