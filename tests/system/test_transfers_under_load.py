"""Real gunicorn, real PostgreSQL, many clients at once: no credit is lost, doubled or made up."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.credits import verification
from app.platform.settings import Settings
from tests import people
from tests.people import TestUser
from tests.server.serving import Server, serving
from tests.system.senders import CLIENTS, CREDITS, USERS, Sender, look_up, same_service, together

SECONDS = 6.0


@pytest.fixture
def live(bank: Settings, tmp_path: Path) -> Iterator[Server]:
    """The service on that database, with two workers."""
    sizes = {"APP_SERVER_WORKERS": "2", "APP_DATABASE_MAX_CONNECTIONS": "8"}
    with serving(tmp_path, app=None, **same_service(bank), **sizes) as server:
        yield server


def busiest(live: Server) -> int:
    """Return the worker with the most clients: on a busy machine one may have them all."""

    def clients(worker: int) -> int:
        open_ones = psutil.Process(worker).net_connections("tcp")
        return sum(each.laddr.port == live.port for each in open_ones)

    return max(live.workers(), key=clients)


def watch_balances(bank: Settings, stop: threading.Event, seen: list[tuple[int, int]]) -> None:
    """Note the smallest balance and the sum of all, again and again, each in one snapshot."""
    engine = create_engine(bank.database_migration_url, poolclass=NullPool)
    look = text(
        "SELECT min(balance) FILTER (WHERE kind = 'user'),"
        " sum(balance) FILTER (WHERE kind = 'user') FROM accounts"
    )
    with engine.connect() as connection:
        while not stop.wait(0.02):
            smallest, total = connection.execute(look).one()
            seen.append((int(smallest), int(total)))
            connection.rollback()


def test_random_transfers_of_sixteen_clients_keep_the_books_right(
    bank: Settings, users: list[TestUser], live: Server
) -> None:
    stop, seen = threading.Event(), list[tuple[int, int]]()
    watcher = threading.Thread(target=watch_balances, args=(bank, stop, seen))
    watcher.start()
    senders = [Sender(live.port, users, seed) for seed in range(CLIENTS)]
    together(lambda i: senders[i].run(SECONDS, retries=False), CLIENTS)
    stop.set()
    watcher.join()

    statuses = [status for sender in senders for status in sender.statuses]
    assert set(statuses) <= {201, 402}
    assert statuses.count(201) > 100
    assert seen
    assert min(smallest for smallest, _ in seen) >= 0
    assert {total for _, total in seen} == {USERS * CREDITS}
    assert list(verification.verify()) == []
    assert look_up(
        bank, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ) == [0]
    made = look_up(bank, "SELECT count(*) FROM transfers WHERE kind = 'transfer'")
    assert made == [statuses.count(201)]


def test_every_acknowledged_transfer_is_there_once_though_workers_are_killed(
    bank: Settings, users: list[TestUser], live: Server
) -> None:
    def kill_workers(_: int) -> None:
        for _ in range(3):
            time.sleep(SECONDS / 4)
            os.kill(busiest(live), signal.SIGKILL)

    senders = [Sender(live.port, users, seed) for seed in range(CLIENTS)]
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_workers, 0)
        together(lambda i: senders[i].run(SECONDS, retries=True), CLIENTS)
        killing.result()

    statuses = [status for sender in senders for status in sender.statuses]
    assert set(statuses) <= {201, 402, 503}
    assert sum(sender.broken for sender in senders) > 0
    acknowledged = [made for sender in senders for made in sender.acknowledged]
    assert len(set(acknowledged)) == len(acknowledged) > 100
    stored = look_up(bank, "SELECT id FROM transfers WHERE kind = 'transfer'")
    assert set(acknowledged) == set(stored)
    assert list(verification.verify()) == []


def test_one_key_sent_thirty_two_times_at_once_makes_one_transfer(
    bank: Settings, users: list[TestUser], live: Server
) -> None:
    sender, receiver = users[:2]
    headers = {
        "Authorization": f"Bearer {sender.token}",
        "Content-Type": "application/json",
        "Idempotency-Key": "one",
    }
    body = json.dumps({"to_user_id": str(receiver.id), "amount": 5})
    start = threading.Barrier(32)

    def send(_: int) -> tuple[int, bytes, str | None]:
        connection = HTTPConnection("127.0.0.1", live.port, timeout=30)
        connection.connect()
        start.wait()
        connection.request("POST", "/api/v1/credits/transfers", body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, answer, response.headers["Idempotent-Replayed"]

    answers = together(send, 32)
    first = [answer for answer in answers if answer[0] == 201 and answer[2] is None]
    assert len(first) == 1
    for status, answer, replayed in answers:
        if status == 201 and replayed is not None:
            assert (answer, replayed) == (first[0][1], "true")
        elif status != 201:
            assert status == 409
            assert json.loads(answer)["error"]["code"] == "IDEMPOTENCY_IN_PROGRESS"
    assert look_up(bank, "SELECT count(*) FROM transfers WHERE kind = 'transfer'") == [1]


def test_health_is_answered_while_everybody_signs_in(
    bank: Settings, users: list[TestUser], tmp_path: Path
) -> None:
    """Hashes at full strength, on one worker: on the event loop, all of them would come first."""
    full = {"APP_AUTH_ARGON2_MEMORY_KIB": "19456", "APP_AUTH_ARGON2_TIME_COST": "2"}
    given = same_service(bank) | full | {"APP_SERVER_WORKERS": "1"}
    with serving(tmp_path, app=None, **given) as server:

        def sign_in(index: int) -> int:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
            body = {"email": users[index % USERS].email, "password": people.PASSWORD}
            connection.request(
                "POST",
                "/api/v1/auth/login",
                json.dumps(body),
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            response.read()
            connection.close()
            return response.status

        with ThreadPoolExecutor(20) as pool:
            began = time.monotonic()
            logins = [pool.submit(sign_in, index) for index in range(20)]
            waits = []
            while not all(login.done() for login in logins):
                asked = time.monotonic()
                assert server.get("/health").status == 200
                waits.append(time.monotonic() - asked)
            whole = time.monotonic() - began
        assert [login.result() for login in logins] == [200] * 20
        # A share of the whole and no milliseconds: the machine may be busy with something else.
        assert len(waits) > 20
        assert max(waits) < whole / 2
