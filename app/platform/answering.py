"""Sends one answer on a client's connection: in one write where it is short, and to its end."""

import socket
from time import monotonic
from typing import Any

from app.platform.connection import Connection

# After a refused body the rest is read and dropped: closing at once would reset the connection,
# and the client, still sending, would never see the answer. Both limits keep that from lasting.
LINGER_SECONDS = 5.0
LINGER_BYTES = 32 << 20
# Joining a head with more than this would cost more than the system call that it spares; and many
# who read the same file slowly would each hold a copy of it.
JOINED_BYTES = 64 * 1024


class Answering:
    """A client's socket while a request is answered; `gunicorn.socket` in the environ.

    The head of the answer waits for the first bytes of the body, and both leave in one write:
    that spares a system call, and a client a wake-up.
    """

    def __init__(self, client: Connection, request: Any) -> None:
        """Wrap the connection for one request."""
        self._client, self._request = client, request
        self._head: bytes | None = b""
        self._hangs_up = False

    def sendall(self, data: bytes) -> None:
        """Send, or keep the head until more comes.

        Raises ConnectionResetError when the client takes nothing, or too little.
        """
        if len(data) > JOINED_BYTES:
            self.flush()
        if self._head is None:
            self._client.send_all(data)
        elif self._head:
            head, self._head = self._head, None
            self._client.send_all(head + data)
        else:
            self._head = data

    @property
    def is_refused(self) -> bool:
        """Tell whether there is no time for the request."""
        return self._client.is_refused

    @property
    def waited(self) -> float:
        """Return how many seconds the request lay unread."""
        return self._client.waited

    def flush(self) -> None:
        """Send what is kept; afterwards everything is sent at once."""
        head, self._head = self._head, None
        if head:
            self._client.send_all(head)

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

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._client, name)
