"""Real gunicorn with two workers behind a proxy: guesses come to nothing, the owner gets in."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from threading import Event
from uuid import uuid4

import pytest
from sqlalchemy import text

from app import create_app
from app.platform import db
from app.platform.settings import Settings
from tests import people
from tests.database import variables
from tests.people import PASSWORD, TestUser
from tests.server.serving import Server, serving
from tests.server.visiting import Visitor

LOGIN = "/api/v1/auth/login"
GUESSES, ADDRESSES, GUESSERS = 1000, 50, 10


@pytest.fixture
def user(empty_database: Settings) -> TestUser:
    return people.make_user(create_app(empty_database))


@pytest.fixture
def server(empty_database: Settings, user: TestUser, tmp_path: Path) -> Iterator[Server]:
    """The service with its limits on, and one proxy in front that it believes."""
    more = {
        "APP_SERVER_WORKERS": "2",
        "APP_SERVER_TRUSTED_PROXIES": "1",
        "APP_DATABASE_MAX_CONNECTIONS": "8",
        "APP_RATE_LIMIT_ENABLED": "true",
        "APP_LOG_LEVEL": "info",
    }
    with serving(tmp_path, app=None, **variables(empty_database) | more) as server:
        yield server


def sign_in(visitor: Visitor, email: str, password: str, address: str, **more: str) -> int:
    # The proxy appends what it sees; what stands before that is the client's own story.
    forwarded = {"X-Forwarded-For": f"10.0.0.1, {uuid4().hex}, {address}"}
    body = {"email": email, "password": password, **more}
    return visitor.post(LOGIN, body, headers=forwarded).status


def test_of_a_thousand_guesses_ten_are_tried_and_the_owner_signs_in_meanwhile(
    empty_database: Settings, server: Server, user: TestUser
) -> None:
    addresses = [f"203.0.113.{number}" for number in range(ADDRESSES)]
    owner = Visitor(server.port)
    body = {"email": user.email, "password": PASSWORD}
    forwarded = {"X-Forwarded-For": addresses[0]}
    device = owner.post(LOGIN, body, headers=forwarded).json["device_token"]
    under_way = Event()

    def guess(number: int) -> list[int]:
        visitor, statuses = Visitor(server.port), []
        for address in islice(cycle(addresses), number, number + GUESSES // GUESSERS):
            statuses.append(sign_in(visitor, user.email, f"guess {number}", address))
            under_way.set()
        visitor.close()
        return statuses

    with ThreadPoolExecutor(GUESSERS) as threads:
        guessing = [threads.submit(guess, number) for number in range(GUESSERS)]
        under_way.wait()
        known = {"device_token": device}
        owners = [sign_in(owner, user.email, PASSWORD, addresses[0], **known)]
        while not all(each.done() for each in guessing):
            owners.append(sign_in(owner, user.email, PASSWORD, addresses[0], **known))
        guessed = [status for each in guessing for status in each.result()]
    assert owners == [200] * len(owners)
    assert (guessed.count(401), guessed.count(429)) == (10, GUESSES - 10)
    failures = "SELECT count(*) FROM audit_events WHERE action = 'auth.login.failed'"
    with db.one_connection(empty_database) as connection:
        assert connection.execute(text(failures)).scalar_one() == 10
    # And then from anywhere, even with the right password, but from the known device.
    assert sign_in(owner, user.email, PASSWORD, "198.51.100.1") == 429
    assert sign_in(owner, user.email, PASSWORD, "198.51.100.1", **known) == 200
    owner.close()
    assert not server.lines("unexpected_error")


def test_an_address_that_is_only_claimed_is_not_believed(
    empty_database: Settings, tmp_path: Path
) -> None:
    """Without a proxy everything comes from one address, whatever the header says."""
    more = {"APP_SERVER_TRUSTED_PROXIES": "0", "APP_RATE_LIMIT_ENABLED": "true"}
    with serving(tmp_path, app=None, **variables(empty_database) | more) as plain:
        visitor = Visitor(plain.port)
        email = "nobody@example.com"
        statuses = [sign_in(visitor, email, "x", f"203.0.113.{n}") for n in range(7)]
        visitor.close()
    assert statuses == [401] * 5 + [429] * 2
