"""Answers `/metrics` and `/health` of a worker, on an address of its own where one is set.

By a thread, because the event loop belongs to the jobs. `/health` looks when that loop has last
moved: one that stands still isn't called alive.
"""

import asyncio
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from app.platform import metrics, vitals
from app.platform.settings import Settings, SettingsError

# For a client to send the next piece of its request, or to take one of its answer.
CLIENT_SECONDS: Final = 5.0
# The loop moves twice a second, unless something keeps it from that.
STILL_SECONDS: Final = 10.0
_moved_at = 0.0


@contextmanager
def answering(settings: Settings) -> Iterator[None]:
    """Answer while the block runs; without APP_WORKER_METRICS_BIND nobody does.

    Raises SettingsError when that address can't be listened on.
    """
    global _moved_at
    metrics.use_slot(0)
    _moved_at = monotonic()
    if settings.worker_metrics_bind is None:
        yield
        return
    try:
        server = _Server(settings.worker_metrics_bind, settings)
    except OSError as error:
        problem = f"APP_WORKER_METRICS_BIND can't be listened on: {error.strerror}."
        raise SettingsError([problem], production=settings.is_production) from None
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


async def watch() -> None:
    """Note that the event loop moves, and how late it is, until the task is cancelled."""
    global _moved_at
    while True:
        _moved_at = began = monotonic()
        await asyncio.sleep(vitals.PAUSE_SECONDS)
        vitals.note_pause(began)


class _Server(ThreadingMixIn, TCPServer):
    """Listens on an address, and gives each client a thread."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, settings: Settings) -> None:
        parts = urlsplit(f"//{address}")
        self.address_family = AF_INET6 if ":" in (parts.hostname or "") else AF_INET
        self.settings = settings
        super().__init__((parts.hostname or "", parts.port or 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: it is a client that hung up."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request, and hangs up."""

    server: _Server
    timeout = CLIENT_SECONDS
    # Names neither the library nor its version.
    server_version, sys_version = "bursar", ""

    def do_GET(self) -> None:
        """Answer."""
        settings = self.server.settings
        if self.path == "/health":
            moves = monotonic() - _moved_at < STILL_SECONDS
            status = "ok" if moves else "stands still"
            self._answer(200 if moves else 503, {"status": status, "version": settings.version})
        elif self.path != "/metrics":
            self._answer(404, {"status": "no such path"})
        elif not self._may_read(settings.metrics_token):
            self._answer(401, {"status": "needs APP_METRICS_TOKEN"})
        else:
            self._send(200, metrics.CONTENT_TYPE, metrics.exposition())

    def log_message(self, *_: Any) -> None:
        """Write no line about a scrape."""

    def _may_read(self, token: str | None) -> bool:
        sent = self.headers.get("Authorization", "").encode()
        return token is None or hmac.compare_digest(sent, f"Bearer {token}".encode())

    def _answer(self, status: int, said: dict[str, str]) -> None:
        self._send(status, "application/json", orjson.dumps(said))

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
