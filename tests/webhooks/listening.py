"""Runs the receiver as a process, and verifies what it got with the standard's own library."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from app.platform.settings import PROJECT_ROOT
from tests import canaries
from tests.network import free_port

PATIENCE = 20.0


@dataclass(frozen=True, kw_only=True)
class Got:
    """One message that the receiver got."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """Return what it says, once the library has found it good."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """The receiver's process, which may be away for a while."""

    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def got(self, path: str | None = None) -> list[Got]:
        """Return the messages it got, those to this path if one is given."""
        lines = self.log.read_text().splitlines()
        every = [Got(**json.loads(line)) for line in lines]
        return [got for got in every if path is None or got.path == f"/{path}"]

    def start(self) -> None:
        """Come (back), and listen on the same port as before."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.webhooks.receiver", str(self.port)],
                cwd=PROJECT_ROOT,
                stdout=output,
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
            else:
                return

    def end(self) -> None:
        """Go away."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def listening(folder: Path) -> Iterator[Receiver]:
    """Run the receiver until the block ends."""
    log = folder / "received"
    log.touch()
    receiver = Receiver(free_port(), log)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.end()
        canaries.hear("what an endpoint gets", log.read_bytes())
