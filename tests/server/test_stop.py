"""How the service stops: what runs is finished, what is idle isn't waited for."""

import os
import signal
import socket
import subprocess
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.network import free_port
from tests.server.serving import (
    PATIENCE,
    ROOT,
    Server,
    command,
    end,
    environment,
    read_all,
    read_answer,
    serving,
    wait_until,
)

WHO = b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_in_a_moment(tmp_path: Path, number: int) -> None:
    with serving(tmp_path, APP_SERVER_WORKERS="2") as server, server.connect() as idle:
        idle.sendall(WHO)
        read_answer(idle)
        with server.connect() as silent:
            # About one second; the rest is for a machine that is busy with other tests.
            assert server.stop(number) < 3
            assert read_all(idle) == read_all(silent) == b""
        assert server.process.returncode == 0
        # Nobody had to be killed.
        assert server.text().count("Worker exiting") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_request_is_finished_and_its_connection_closed(
    tmp_path: Path, number: int
) -> None:
    with serving(tmp_path) as server, server.connect() as client:
        client.sendall(b"GET /sleep/1.0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)
        # As a terminal does it on Ctrl-C: master and workers get the signal.
        os.killpg(server.process.pid, number)
        head, _, body = read_all(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in head
        assert body == b"slept"
        server.process.wait(PATIENCE)


# As on a busy machine: the worker is still starting when the signal comes.
SLOW_START = """
exec(open("gunicorn.conf.py").read())
hand_over = post_fork

def post_fork(server, worker):
    hand_over(server, worker)
    time.sleep(1)

import time
"""


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_comes_while_a_worker_starts_is_not_lost(tmp_path: Path, number: int) -> None:
    configuration = tmp_path / "slow.conf.py"
    configuration.write_text(SLOW_START)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(f"--config={configuration}", app="tests.server.small:app"),
            cwd=ROOT,
            env=environment(tmp_path, APP_SERVER_PORT=str(free_port())),
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: "Booting worker" in log.read_text())
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(number)
        process.wait(PATIENCE)
        assert time.monotonic() - began < 8
    finally:
        end(process)


@pytest.mark.usefixtures("traced")
def test_new_connections_are_refused_while_a_request_is_finished(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as client:
        client.sendall(b"GET /stream/300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.recv(1)
        server.process.terminate()
        wait_until(lambda: not listens(server), seconds=5)
        server.process.kill()


def listens(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_server_that_stops_is_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as client:
        server.process.terminate()
        wait_until(lambda: "Handling signal: term" in server.text())
        # On a connection that is open already: the balancer's health check.
        client.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, body = read_answer(client)
        assert head.startswith(b"HTTP/1.1 503")
        assert b'"service":"stopping"' in body


def test_a_stop_under_load_loses_no_request(tmp_path: Path) -> None:
    with serving(tmp_path, APP_SERVER_WORKERS="2") as server:
        lost: list[str] = []
        answered: list[int] = []
        clients = [
            threading.Thread(target=ask_until_closed, args=(server, answered, lost))
            for _ in range(8)
        ]
        for client in clients:
            client.start()
        time.sleep(1)
        server.stop()
        for client in clients:
            client.join(PATIENCE)
        assert lost == []
        assert len(answered) > 50


def ask_until_closed(server: Server, answered: list[int], lost: list[str]) -> None:
    """Send requests on one kept connection after the other until nobody listens."""
    while True:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        try:
            connection.connect()
        except OSError:
            return
        try:
            while True:
                connection.request("GET", "/sleep/0.01")
                response = connection.getresponse()
                response.read()
                answered.append(response.status)
                if response.getheader("Connection") == "close":
                    break
        except OSError as error:
            lost.append(repr(error))
        finally:
            connection.close()


@pytest.mark.usefixtures("traced")
def test_a_second_interrupt_ends_what_runs_and_says_so(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as client:
        client.sendall(b"GET /stream/10000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        threading.Thread(target=drain, args=(client,), daemon=True).start()
        wait_until(lambda: server.workers())
        os.killpg(server.process.pid, signal.SIGINT)
        time.sleep(1.5)
        assert server.process.poll() is None
        began = time.monotonic()
        os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(PATIENCE)
        assert time.monotonic() - began < 4
        assert server.lines("requests_cut")[0]["running"] == 1


def drain(client: socket.socket) -> None:
    try:
        read_all(client)
    except OSError:
        return


# Without the check at the start, which refuses so short a time.
SHORT_STOP = """
exec(open("gunicorn.conf.py").read())
graceful_timeout = 10
del on_starting
"""


@pytest.mark.usefixtures("traced")
def test_what_outlasts_the_graceful_time_is_cut_with_a_log_line(tmp_path: Path) -> None:
    configuration = tmp_path / "short.conf.py"
    configuration.write_text(SHORT_STOP)
    option = f"--config={configuration}"
    with serving(tmp_path, option) as server, server.connect() as client:
        client.sendall(b"GET /stream/10000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        threading.Thread(target=drain, args=(client,), daemon=True).start()
        time.sleep(0.3)
        assert 2 <= server.stop() < 5
        (cut,) = server.lines("requests_cut")
        assert (cut["level"], cut["running"]) == ("warning", 1)
        (request,) = [line for line in server.lines("request") if "/stream/" in str(line["route"])]
        assert request["aborted"] is True


@pytest.mark.usefixtures("traced")
def test_a_killed_worker_is_replaced_and_takes_over_its_slot(tmp_path: Path) -> None:
    with serving(tmp_path, APP_SERVER_WORKERS="2") as server:
        files = tmp_path / "data" / "metrics" / str(server.port)
        for answered in (10, 20, 30):
            for _ in range(10):
                assert server.get("/who").status == 200
            # A request is counted once its answer is out; what killed workers counted stays.
            wait_until(lambda answered=answered: counted(server) == answered)
            before = server.workers()
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda before=before: before[0] not in server.workers())
            wait_until(lambda: len(server.workers()) == 2)
        assert counted(server) == 30
        slots = {path.stem.rpartition("_")[2] for path in files.iterdir()}
        assert slots <= {"0", "1", "master"}


def counted(server: Server) -> float:
    """Return how many answers of `/who` the metrics know of, whichever worker is asked."""
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith("http_requests_total") and 'route="/who"' in line:
            return float(line.rpartition(" ")[2])
    return 0


@pytest.mark.usefixtures("traced")
def test_a_hang_up_replaces_the_workers_and_loses_no_request(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as client:
        before = server.workers()
        client.sendall(b"GET /sleep/1.0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGHUP)
        assert read_answer(client)[1] == b"slept"
        wait_until(lambda: before[0] not in server.workers())
        assert len(server.workers()) == 1
        assert server.get("/who").json["pid"] == server.workers()[0]
