"""Keeps the tests on this machine: a socket that leaves loopback is an error; gives free ports."""

import ipaddress
import socket
from typing import Any

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


class LeavesThisMachine(AssertionError):
    """A test, or the code under test, tried to talk to another machine."""


def close() -> None:
    """Let sockets of this process connect to loopback and to Unix sockets only."""

    def connect(self: socket.socket, address: Any) -> None:
        _refuse_others(self, address)
        _connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_others(self, address)
        return _connect_ex(self, address)

    socket.socket.connect = connect
    socket.socket.connect_ex = connect_ex


def free_port() -> int:
    """Return a port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _refuse_others(own: socket.socket, address: Any) -> None:
    if own.family == socket.AF_UNIX:
        return
    host = address[0]
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise LeavesThisMachine(f"a test tried to connect to {host}")
