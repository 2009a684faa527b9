"""A stand-in for Sentry: a real HTTP receiver that keeps the envelopes it was sent."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import brotli

from tests import canaries


class Received(ThreadingHTTPServer):
    """The receiver, and what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Receiver)

    @property
    def dsn(self) -> str:
        """Return the address to report to."""
        return f"http://key@127.0.0.1:{self.server_address[1]}/1"

    def events(self) -> list[dict[str, Any]]:
        """Return the events among all that was sent; an envelope is lines of JSON."""
        parts = [json.loads(line) for body in self.bodies for line in body.splitlines() if line]
        return [part for part in parts if "exception" in part]


class Receiver(BaseHTTPRequestHandler):
    """Takes one envelope."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        unpack = {"gzip": gzip.decompress, "br": brotli.decompress}.get(
            self.headers.get("Content-Encoding", ""), bytes
        )
        unpacked = unpack(body)
        canaries.hear("what goes to Sentry", unpacked)
        self.server.bodies.append(unpacked)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Stay silent."""


@contextmanager
def receiving() -> Iterator[Received]:
    """Run the receiver until the block ends."""
    server = Received()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
