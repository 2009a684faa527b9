"""No test and no code under test talks to another machine."""

import socket

import pytest

from tests.network import LeavesThisMachine


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org", "2001:db8::1"])
def test_a_socket_that_leaves_this_machine_is_an_error(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as own:
        with pytest.raises(LeavesThisMachine, match=host):
            own.connect((host, 80))
        with pytest.raises(LeavesThisMachine, match=host):
            own.connect_ex((host, 80))


def test_loopback_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as own:
        own.connect(server.getsockname())
