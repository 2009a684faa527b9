"""Clients that send transfers to a running service, and the bank whose books they move."""

import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app.platform.settings import Settings
from tests.database import variables
from tests.people import TestUser

CLIENTS = 16
USERS = 10
CREDITS = 1000


def same_service(bank: Settings) -> dict[str, str]:
    """Return what makes a server one with this process: database, secrets, issuer of tokens."""
    return variables(bank) | {"APP_AUTH_ISSUER": bank.auth_issuer}


class Sender:
    """One client that sends random transfers, each with a key, until it is acknowledged."""

    def __init__(self, port: int, users: list[TestUser], seed: int) -> None:
        """Send to this port, as a random one of the users each time."""
        self.port, self.users, self.random = port, users, random.Random(seed)
        self.connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self.statuses: list[int] = []
        self.acknowledged: list[UUID] = []
        self.broken = 0
        self.lost: list[str] = []

    def run(self, seconds: float, *, retries: bool) -> None:
        """Send for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.send_one(retries=retries)
        self.connection.close()

    def run_until(self, enough: threading.Event, *, pause: float, keeps: bool) -> None:
        """Send each transfer once until it is enough; note in `lost` those without a real answer.

        In between pass up to `pause` seconds; without `keeps` each gets a connection of its own.
        """
        while not enough.wait(self.random.uniform(0, pause)):
            try:
                self.send_one(retries=False)
            except (OSError, HTTPException, ValueError) as error:
                self.lost.append(repr(error))
                self.connection.close()
            if not keeps:
                self.connection.close()
        self.connection.close()

    def send_one(self, *, retries: bool) -> None:
        """Send one random transfer, and remember the answer.

        Raises OSError or HTTPException without `retries` when there is none, ValueError when it
        isn't the service's.
        """
        sender, receiver = self.random.sample(self.users, 2)
        body = {"to_user_id": str(receiver.id), "amount": self.random.randint(1, 400)}
        status, answer = self.send(sender, body, retries=retries)
        self.statuses.append(status)
        if status == 201:
            self.acknowledged.append(UUID(answer["id"]))

    def send(self, sender: TestUser, body: Any, *, retries: bool) -> tuple[int, Any]:
        """Send one transfer; when the connection breaks, send it again with the same key."""
        headers = {
            "Authorization": f"Bearer {sender.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid4()),
        }
        while True:
            try:
                self.connection.request(
                    "POST", "/api/v1/credits/transfers", json.dumps(body), headers
                )
                response = self.connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, HTTPException):
                if not retries:
                    raise
                self.broken += 1
                self.connection.close()
                time.sleep(0.05)
                continue
            if response.status == 409 and answer["error"]["code"] == "IDEMPOTENCY_IN_PROGRESS":
                time.sleep(0.05)
                continue
            return response.status, answer


def look_up(bank: Settings, statement: str) -> list[Any]:
    """Return the first column of a query, as the owner."""
    engine = create_engine(bank.database_migration_url, poolclass=NullPool)
    with engine.connect() as connection:
        return list(connection.execute(text(statement)).scalars())


def together(work: Callable[[int], Any], count: int) -> list[Any]:
    """Do something in many threads at once, and return what came of it."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))
