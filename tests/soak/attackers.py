"""Holds connections and does little on them: slow heads, slow bodies, slow readers, in one process.

`python -m tests.soak.attackers PORT NUMBER` holds NUMBER of each until it is ended, and begins each
anew that the server has closed. It writes a line once all have begun.
"""

import select
import socket
import sys
import time

# Each sends or takes a little so often: fast enough for every limit on silence.
PAUSE_SECONDS = 0.5
TAKEN_BYTES = 256
HOST = b"Host: 127.0.0.1\r\n"
HEAD = b"GET /api/v1/users/me HTTP/1.1\r\n" + HOST + b"X-Slow: "
BODY = (
    b"POST /api/v1/auth/login HTTP/1.1\r\n"
    + HOST
    + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"
)
# Many large answers in turn: one of them fits into the buffers of the two systems.
READ = (b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST + b"\r\n") * 20


class Attacker:
    """One slow client, which connects anew when the server has had enough of it."""

    def __init__(self, port: int, begin: bytes, *, reads: bool) -> None:
        """Begin the request."""
        self._port, self._begin, self._reads = port, begin, reads
        self._connect()

    def go_on(self) -> None:
        """Send or take a little."""
        try:
            if self._reads:
                readable = select.select([self._socket], [], [], 0)[0]
                gone = bool(readable) and not self._socket.recv(TAKEN_BYTES)
            else:
                # An answer, such as 408, ends the attempt as a closed connection does.
                gone = bool(select.select([self._socket], [], [], 0)[0])
                self._socket.send(b"x")
        except OSError:
            gone = True
        if gone:
            self._socket.close()
            self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket()
        # A window as small as the system allows.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.settimeout(5)
        try:
            self._socket.connect(("127.0.0.1", self._port))
            self._socket.send(self._begin)
        except OSError:
            # The next turn finds it broken and tries again.
            return


def main() -> None:
    """Attack until the process is ended."""
    port, number = int(sys.argv[1]), int(sys.argv[2])
    kinds = ((HEAD, False), (BODY, False), (READ, True))
    everyone = [Attacker(port, begin, reads=reads) for begin, reads in kinds for _ in range(number)]
    print("begun", flush=True)
    while True:
        for attacker in everyone:
            attacker.go_on()
            time.sleep(PAUSE_SECONDS / len(everyone))


if __name__ == "__main__":
    main()
