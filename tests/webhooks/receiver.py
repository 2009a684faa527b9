"""An app's endpoint, as a program of its own: the path says how it behaves.

    python -m tests.webhooks.receiver PORT

It writes what it gets to standard output, one JSON object a line, before it answers.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

MEBIBYTE = 1 << 20


class Endpoint(BaseHTTPRequestHandler):
    """Takes one message."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        got = {"path": self.path, "headers": dict(self.headers), "body": body.decode()}
        sys.stdout.write(json.dumps(got) + "\n")
        sys.stdout.flush()
        how, _, what = self.path.partition("?")[0].strip("/").partition("/")
        getattr(self, f"answer_{how}")(what)

    def answer_status(self, code: str) -> None:
        """Answer with this status."""
        self.send_response(int(code))
        self.end_headers()

    def answer_later(self, what: str) -> None:
        """Answer with a status, and when to come again: `status/that`."""
        code, _, after = what.partition("/")
        self.send_response(int(code))
        self.send_header("Retry-After", unquote(after))
        self.end_headers()

    def answer_redirect(self, _what: str) -> None:
        """Send the caller to another path of this program."""
        self.send_response(307)
        self.send_header("Location", "/status/200")
        self.end_headers()

    def answer_hang(self, _what: str) -> None:
        """Say nothing for as long as the caller waits."""
        self.rfile.read(1)

    def answer_drip(self, _what: str) -> None:
        """Say a byte of a head that never ends every 50 ms."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(200):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def answer_body(self, _what: str) -> None:
        """Answer with a body of 1 MiB."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * MEBIBYTE)

    def answer_head(self, _what: str) -> None:
        """Answer with a head of 1 MiB, in lines that are each short enough."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Line: 0123456789\r\n" * (MEBIBYTE // 20))

    def answer_garbage(self, _what: str) -> None:
        """Answer in another language."""
        self.wfile.write(b"220 mail.example.com ESMTP\r\n")

    def answer_nothing(self, _what: str) -> None:
        """Hang up."""

    def handle(self) -> None:
        """Be silent about callers that have hung up."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def finish(self) -> None:
        """Be silent about them here, too."""
        try:
            super().finish()
        except OSError:
            self.close_connection = True

    def log_message(self, *_what: object) -> None:
        """Stay silent."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Endpoint) as server:
        server.serve_forever()
