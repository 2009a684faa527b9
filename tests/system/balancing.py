"""Runs Debian's HAProxy with the project's own file, on ports of the test's choice."""

import csv
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.network import free_port
from tests.server.serving import ROOT, wait_until
from tests.system import debian

CONFIGURATION = ROOT / "deploy/haproxy/haproxy.cfg"


@dataclass(frozen=True)
class Balancer:
    """A running HAProxy, and the socket on which it tells what it knows."""

    port: int
    socket: Path

    def status(self, server: str) -> str:
        """Return what HAProxy thinks of a server: `UP`, `DOWN`, `UP 1/2`."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.socket))
            asking.sendall(b"show stat\n")
            with asking.makefile() as told:
                rows = csv.DictReader(told.read().removeprefix("# ").splitlines())
        return next(row["status"] for row in rows if row["svname"] == server)


@contextmanager
def balancing(one: int, two: int) -> Iterator[Balancer]:
    """Run HAProxy in front of the servers on two ports until the block ends."""
    # The path of a socket may have 107 bytes; pytest's folders are longer.
    folder = Path(tempfile.mkdtemp(prefix="bursar-haproxy-"))
    balancer = Balancer(free_port(), folder / "admin.sock")
    own = {
        "/run/haproxy/bursar.sock": str(balancer.socket),
        "127.0.0.1:8080": f"127.0.0.1:{balancer.port}",
        "127.0.0.1:3000": f"127.0.0.1:{one}",
        "127.0.0.1:3001": f"127.0.0.1:{two}",
    }
    text = CONFIGURATION.read_text()
    for given, ours in own.items():
        assert text.count(given) == 1
        text = text.replace(given, ours)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    process = subprocess.Popen(
        [debian.haproxy(), "-db", "-f", str(file)], stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _accepts(balancer.port))
        yield balancer
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
