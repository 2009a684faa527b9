"""Starts Debian's Redis, with a password, on a port and a socket of its own."""

import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.network import free_port
from tests.server.serving import wait_until
from tests.system import debian


@dataclass
class RedisServer:
    """A server that can be ended, started again and stopped in its tracks."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def url(self) -> str:
        """Return its address, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """Return the address of its Unix socket."""
        return f"unix://{self.folder}/redis.sock?password={self.password}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = ["--port", str(self.port), "--requirepass", self.password, "--save", ""]
        places = ["--dir", str(self.folder), "--unixsocket", f"{self.folder}/redis.sock"]
        self.process = subprocess.Popen(
            [debian.redis(), "--bind", "127.0.0.1", *options, *places],
            stdout=subprocess.DEVNULL,
        )
        wait_until(self.answers)

    def answers(self) -> bool:
        """Tell whether it does."""
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def end(self) -> None:
        """End it, whatever state it is in."""
        self.process.kill()
        self.process.wait()
