"""Keys are changed under load, on real gunicorn with two workers, and nobody notices."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from app import create_app
from app.keys import rotation
from app.platform.actor import Actor
from app.platform.settings import Settings
from tests import people
from tests.database import variables
from tests.people import TestUser
from tests.server.serving import Server, serving
from tests.server.visiting import Visitor

ROTATIONS = 10
CLIENTS = 6
JWKS = "/.well-known/jwks.json"
ME = "/api/v1/users/me"
OPERATOR = Actor(kind="cli")


@pytest.fixture
def users(empty_database: Settings) -> list[TestUser]:
    """A signed-in user for each client."""
    app = create_app(empty_database)
    return [people.make_user(app) for _ in range(CLIENTS)]


@pytest.fixture
def live(empty_database: Settings, users: object, tmp_path: Path) -> Iterator[Server]:
    """The service on that database, with two workers and an issuer that this process shares."""
    same = variables(empty_database) | {"APP_AUTH_ISSUER": empty_database.auth_issuer}
    with serving(tmp_path, app=None, **same, APP_SERVER_WORKERS="2") as server:
        yield server


@pytest.fixture
def change(empty_database: Settings) -> Callable[[str], None]:
    """A function that executes a statement as the owner of the tables."""
    owner = create_engine(empty_database.database_migration_url, poolclass=NullPool)

    def change(statement: str) -> None:
        with owner.begin() as connection:
            connection.execute(text(statement))

    return change


class Collector:
    """A client that keeps every access token it ever got, and uses all of them."""

    def __init__(self, port: int, user: TestUser) -> None:
        self.port, self.user = port, user
        self.tokens, self.refresh_token = [user.token], user.refresh_token
        self.answers: list[tuple[str, int]] = []

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop: mostly with any of the tokens, now and then for a new one."""
        while not stop.is_set():
            self.visit(random.choice(self.tokens))
            self.visit(self.tokens[-1])
            self.renew("/api/v1/auth/refresh", refresh_token=self.refresh_token)
            self.visit(self.tokens[-1])
            if random.random() < 0.2:
                email, password = self.user.email, self.user.password
                self.renew("/api/v1/auth/login", email=email, password=password)

    def visit(self, token: str) -> None:
        self.ask("GET", ME, token=token)

    def renew(self, path: str, **body: str) -> None:
        answer = self.ask("POST", path, body=body)
        self.tokens.append(answer["access_token"])
        self.refresh_token = answer["refresh_token"]

    def ask(self, method: str, path: str, **options: Any) -> Any:
        # A connection for each request, so that both workers get their share.
        with closing(Visitor(self.port)) as visitor:
            answer = visitor.request(method, path, **options)
        self.answers.append((path, answer.status))
        return answer.json


def kid_of(token: str) -> str:
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


def test_ten_rotations_under_load_refuse_no_valid_token(
    live: Server, users: list[TestUser], change: Callable[[str], None]
) -> None:
    """The clock of the rows is turned back, and the service does all the rest by itself."""
    collectors, stop = [Collector(live.port, user) for user in users], threading.Event()
    with ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(collector.run, stop) for collector in collectors]
        try:
            for number in range(ROTATIONS):
                change(
                    "UPDATE signing_keys SET activated_at = activated_at - interval '90 days'"
                    " WHERE state = 'active'"
                )
                assert len(live.get(JWKS).json["keys"]) == number + 2
                time.sleep(0.2)
                change(
                    "UPDATE signing_keys SET created_at = created_at - interval '20 minutes'"
                    " WHERE state = 'published'"
                )
                assert len(live.get(JWKS).json["keys"]) == number + 2
                time.sleep(0.3)
        finally:
            stop.set()
        for one in running:
            one.result()
    answers = [answer for collector in collectors for answer in collector.answers]
    assert {status for _, status in answers} == {200}
    kids = {kid_of(token) for collector in collectors for token in collector.tokens}
    assert len(kids) == ROTATIONS + 1
    assert len(answers) > 200


def test_a_revoked_key_is_refused_by_both_workers_at_once(
    live: Server, users: list[TestUser]
) -> None:
    for number in range(10):
        collector = Collector(live.port, users[0])
        collector.renew(
            "/api/v1/auth/login", email=collector.user.email, password=collector.user.password
        )
        for _ in range(8):
            collector.visit(collector.tokens[-1])
        assert {status for _, status in collector.answers} == {200}, number
        collector.answers.clear()
        rotation.revoke(key_id=UUID(kid_of(collector.tokens[-1])), actor=OPERATOR)
        for _ in range(8):
            collector.visit(collector.tokens[-1])
        assert {status for _, status in collector.answers} == {401}, number


def verified(client: jwt.PyJWKClient, token: str, settings: Settings) -> Any:
    """Do what a foreign service does, and return who the token says it is."""
    claims = jwt.decode(
        token,
        client.get_signing_key_from_jwt(token),
        algorithms=["EdDSA"],
        audience=settings.auth_audience,
        issuer=settings.auth_issuer,
    )
    return claims["sub"]


def test_pyjwt_has_the_next_key_before_its_first_token_comes(
    live: Server, empty_database: Settings, users: list[TestUser], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = jwt.PyJWKClient(f"http://127.0.0.1:{live.port}{JWKS}")
    fetched, fetch = [], client.fetch_data
    monkeypatch.setattr(client, "fetch_data", lambda: fetched.append(fetch()) or fetched[-1])
    collector = Collector(live.port, users[0])
    rotation.rotate(at_once=False, actor=OPERATOR)
    assert verified(client, collector.tokens[0], empty_database) == str(users[0].id)
    rotation.rotate(at_once=True, actor=OPERATOR)
    collector.renew("/api/v1/auth/refresh", refresh_token=collector.refresh_token)
    assert kid_of(collector.tokens[1]) != kid_of(collector.tokens[0])
    assert verified(client, collector.tokens[1], empty_database) == str(users[0].id)
    assert len(fetched) == 1


def test_pyjwt_gets_a_key_of_an_emergency_from_whichever_worker_it_asks(
    live: Server, empty_database: Settings, users: list[TestUser]
) -> None:
    client = jwt.PyJWKClient(f"http://127.0.0.1:{live.port}{JWKS}", cooldown_duration=0)
    collector = Collector(live.port, users[0])
    for _ in range(6):
        assert verified(client, collector.tokens[-1], empty_database) == str(users[0].id)
        rotation.revoke(key_id=UUID(kid_of(collector.tokens[-1])), actor=OPERATOR)
        collector.renew("/api/v1/auth/refresh", refresh_token=collector.refresh_token)
    later = jwt.PyJWKClient(f"http://127.0.0.1:{live.port}{JWKS}")
    for token in collector.tokens[:-1]:
        with pytest.raises(jwt.PyJWKClientError):
            verified(later, token, empty_database)
