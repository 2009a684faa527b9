"""Reloads and a rolling restart under load: each request is answered, and nobody repeats one."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.credits import verification
from app.platform.settings import Settings
from tests.network import free_port
from tests.people import TestUser
from tests.server.serving import PATIENCE, Server, serving, wait_until
from tests.system import debian
from tests.system.balancing import CONFIGURATION, Balancer, balancing
from tests.system.senders import CLIENTS, CREDITS, USERS, Sender, look_up, same_service

# HAProxy has seen three failed checks after 2 s.
SIZES = {
    "APP_SERVER_DRAIN_SECONDS": "3",
    "APP_DATABASE_MAX_CONNECTIONS": "8",
    "APP_LOG_LEVEL": "warning",
}
# Below what clients get between two checks on a machine that is busy with other tests.
LEAST_ANSWERS = 30


@contextmanager
def sending(port: int, users: list[TestUser]) -> Iterator[list[Sender]]:
    """Let sixteen clients send until the block ends, in the ways that clients have.

    Some keep their connection and send at once or after a while, some open one for each request.
    """
    enough = threading.Event()
    senders = [Sender(port, users, seed) for seed in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [
            pool.submit(
                sender.run_until,
                enough,
                pause=1.0 if index % 4 == 0 else 0.05,
                keeps=index % 4 != 1,
            )
            for index, sender in enumerate(senders)
        ]
        try:
            wait_until(lambda: answered(senders) > LEAST_ANSWERS)
            yield senders
        finally:
            enough.set()
    for one in running:
        one.result()


def answered(senders: list[Sender]) -> int:
    """Return how many answers there were so far."""
    return sum(len(sender.statuses) for sender in senders)


@contextmanager
def under_load(senders: list[Sender]) -> Iterator[None]:
    """Make sure that clients were answered while the block ran."""
    before = answered(senders)
    yield
    assert answered(senders) - before >= LEAST_ANSWERS


def reload(server: Server) -> None:
    """Send SIGHUP, and wait until all old workers are gone and as many new ones are there."""
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not set(before) & set(server.workers()))
    assert len(server.workers()) == len(before)


def assert_that_nothing_was_lost(bank: Settings, senders: list[Sender]) -> None:
    """Hold the answers against each other and against the books."""
    assert [lost for sender in senders for lost in sender.lost] == []
    statuses = [status for sender in senders for status in sender.statuses]
    assert set(statuses) <= {201, 402}
    acknowledged = {made for sender in senders for made in sender.acknowledged}
    made = look_up(bank, "SELECT id FROM transfers WHERE kind = 'transfer'")
    assert set(made) == acknowledged
    assert len(made) == statuses.count(201) > LEAST_ANSWERS
    assert list(verification.verify()) == []
    balances = look_up(bank, "SELECT balance FROM accounts WHERE kind = 'user'")
    assert sum(balances) == USERS * CREDITS


def test_three_reloads_under_load_lose_no_request(
    bank: Settings, users: list[TestUser], tmp_path: Path
) -> None:
    # Longer than clients leave their connections alone.
    given = same_service(bank) | SIZES | {"APP_SERVER_DRAIN_SECONDS": "1.5"}
    given["APP_SERVER_WORKERS"] = "2"
    with serving(tmp_path, app=None, **given) as server:
        with sending(server.port, users) as senders:
            for _ in range(3):
                with under_load(senders):
                    reload(server)
        assert_that_nothing_was_lost(bank, senders)


def test_a_rolling_restart_behind_a_balancer_loses_no_request(
    bank: Settings, users: list[TestUser], tmp_path: Path
) -> None:
    given = same_service(bank) | SIZES | {"APP_SERVER_TRUSTED_PROXIES": "1"}
    ports = {"one": free_port(), "two": free_port()}

    def start(name: str) -> Server:
        port = {"APP_SERVER_PORT": str(ports[name])}
        return running.enter_context(serving(tmp_path, app=None, **given, **port))

    with ExitStack() as running, balancing(ports["one"], ports["two"]) as balancer:
        servers = {name: start(name) for name in ports}
        wait_until(lambda: all(balancer.status(name) == "UP" for name in ports))
        with sending(balancer.port, users) as senders:
            for name, server in servers.items():
                with under_load(senders):
                    stop_once_it_is_out(server, name, balancer)
                with under_load(senders):
                    started = start(name)
                    wait_until(lambda name=name: balancer.status(name) == "UP")
            # One that reloads stays in.
            with under_load(senders):
                reload(started)
                assert balancer.status(name) == "UP"
        assert_that_nothing_was_lost(bank, senders)


def stop_once_it_is_out(server: Server, name: str, balancer: Balancer) -> None:
    """Stop a server, which goes on until the balancer sends nobody to it any more."""
    server.process.terminate()
    wait_until(lambda: balancer.status(name) == "DOWN")
    assert server.process.poll() is None
    assert server.get("/health").status == 200
    assert server.process.wait(PATIENCE) == 0
    time.sleep(0.1)


@pytest.mark.parametrize("name", ["haproxy.cfg", "cluster.cfg"])
def test_the_balancers_files_are_without_a_warning(name: str) -> None:
    checked = subprocess.run(
        [debian.haproxy(), "-c", "-dW", "-f", str(CONFIGURATION.with_name(name))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
