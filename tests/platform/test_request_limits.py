"""Limits of all requests: by user when somebody is signed in, else by network address."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app import create_app
from app.platform import guards, metrics
from app.platform.errors import TooManyRequests
from app.platform.openapi import operations
from app.platform.overload import PROBES
from app.platform.settings import Settings
from tests.client import Client
from tests.database import pool_on
from tests.limiting import SwitchOn, assert_limited, later, switching
from tests.people import TestUser
from tests.platform.test_refusals import operations_on, takes_body

MakeUser = Callable[..., TestUser]
ME = "/api/v1/users/me"
BALANCE = "/api/v1/credits/balance"
LOGIN = "/api/v1/auth/login"
REFRESH = "/api/v1/auth/refresh"
LOGOUT = "/api/v1/auth/logout"


@pytest.fixture
def switch_on(settings: Settings, app: Flask) -> Iterator[SwitchOn]:
    with switching(settings) as switch_on:
        yield switch_on


def at(address: str | None) -> dict[str, Any]:
    return {"environ_base": {"REMOTE_ADDR": address or ""}}


def somewhere() -> str:
    """Return an address that no other test is at."""
    return f"2001:db8:{os.urandom(2).hex()}:{os.urandom(2).hex()}::1"


def test_every_operation_is_limited(
    app: Flask, client: Client, switch_on: SwitchOn, make_user: MakeUser
) -> None:
    """The others by user, the public ones by address, and so what takes another proof."""
    user, address = make_user(), somewhere()
    switch_on(rate_limit_user_per_minute=1, rate_limit_anonymous_per_minute=1)
    with later(0):
        assert client.get("/", **at(address)).status_code == 200
        assert client.get(ME, token=user.token, **at(address)).status_code == 200
        for method, path, view in operations_on(app, {}):
            body: dict[str, Any] = {"json": {}} if takes_body(view) else {}
            if path == LOGIN:
                body = {"json": {"email": user.email, "password": user.password}}
            access = guards.access(view)
            tokens = {guards.PUBLIC: [None], guards.OPTIONAL: [None, user.token]}
            for token in tokens.get(access, [user.token]):
                answer = client.request(method, path, token=token, **body, **at(address))
                assert_limited(answer, limit=1, within=60)
        for path in ("/", "/docs", "/openapi.json", "/.well-known/jwks.json"):
            assert_limited(client.get(path, **at(address)), limit=1, within=60)
        # Files are counted by themselves.
        assert client.get("/docs/start.js", **at(address)).status_code == 200
        assert_limited(client.get("/docs/swagger-ui.css", **at(address)), limit=1, within=60)


def test_every_operation_that_is_not_a_probe_says_so(app: Flask) -> None:
    paths = app.extensions["bursar_openapi"]["paths"]
    for path, listed in paths.items():
        for name, operation in listed.items():
            if name == "parameters":
                continue
            assert ("429" in operation["responses"]) == (path not in PROBES), path
            if path not in PROBES:
                assert set(operation["responses"]["429"]["headers"]) >= {
                    "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
                }  # fmt: skip


def test_probes_and_preflights_and_what_is_not_there_are_not_limited(
    app: Flask, client: Client, switch_on: SwitchOn
) -> None:
    address = somewhere()
    switch_on(rate_limit_anonymous_per_minute=1)
    assert client.get("/", **at(address)).status_code == 200
    assert {rule for rule, _, _ in operations(app)} >= PROBES
    for path in sorted(PROBES):
        assert [client.get(path, **at(address)).status_code for _ in range(3)] == [200] * 3
    for method, path in (("OPTIONS", ME), ("GET", "/api/v1/nothing"), ("PATCH", BALANCE)):
        assert client.request(method, path, **at(address)).status_code in (200, 404, 405)
    assert client.get("/", **at(address)).status_code == 429


@pytest.mark.parametrize(("limit", "share"), [(40, 10), (12, 2), (7, 1)])
def test_workers_never_let_a_user_have_more_than_the_limit(
    client: Client, switch_on: SwitchOn, make_user: MakeUser, limit: int, share: int
) -> None:
    user, fine, refused = make_user(), 0, 0
    with later(0):
        while refused < 3:
            # Every so often another worker goes on, which has no share yet.
            switch_on(rate_limit_user_per_minute=limit)
            answers = [client.get(ME, token=user.token) for _ in range(limit // 2)]
            fine += sum(answer.status_code == 200 for answer in answers)
            refused += answers[-1].status_code == 429
        assert limit - 2 * share < fine <= limit
        assert_limited(answers[-1], limit=limit, within=60)
    with later(61):
        assert client.get(ME, token=user.token).status_code == 200


def test_one_worker_lets_a_user_have_exactly_the_limit(
    client: Client, switch_on: SwitchOn, make_user: MakeUser
) -> None:
    user, other, start = make_user(), make_user(), Barrier(8)
    switch_on(rate_limit_user_per_minute=60)

    def ask(_: int) -> list[int]:
        start.wait()
        return [client.get(ME, token=user.token).status_code for _ in range(12)]

    with ThreadPoolExecutor(8) as threads:
        statuses = [status for many in threads.map(ask, range(8)) for status in many]
    assert (statuses.count(200), statuses.count(429)) == (60, 36)
    assert client.get(ME, token=other.token).status_code == 200


def test_shares_are_spent_exactly_by_many_at_once(switch_on: SwitchOn) -> None:
    """Seen failing without the lock, with a pause put where the clock is read."""
    limiter, user, start = switch_on(rate_limit_user_per_minute=2000), uuid4(), Barrier(8)

    def spend(_: int) -> int:
        start.wait()
        granted = 0
        for _ in range(400):
            try:
                limiter.spend(limiter.per_user, (user,))
            except TooManyRequests:
                continue
            granted += 1
        return granted

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(spend, range(8))) == 2000


def test_an_address_is_counted_exactly_by_all_workers(client: Client, switch_on: SwitchOn) -> None:
    address, start = somewhere(), Barrier(8)
    workers = [switch_on(rate_limit_anonymous_per_minute=20) for _ in range(4)]

    def ask(number: int) -> int:
        worker = workers[number % 4]
        start.wait()
        granted = 0
        for _ in range(6):
            try:
                worker.take(worker.per_address, (address,), remembers=True)
            except TooManyRequests:
                continue
            granted += 1
        return granted

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 20


def test_a_flood_that_is_refused_asks_nothing_of_the_store(
    client: Client, switch_on: SwitchOn, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, address = make_user(), somewhere()
    limiter = switch_on(rate_limit_user_per_minute=20, rate_limit_anonymous_per_minute=2)
    takes: list[int] = []
    take = limiter._shared.take

    def noted(key: bytes, **options: Any) -> Any:
        takes.append(options["amount"])
        return take(key, **options)

    monkeypatch.setattr(limiter._shared, "take", noted)
    for _ in range(50):
        client.get(ME, token=user.token, **at(address))
    assert takes == [10, 10, 10]
    takes.clear()
    for _ in range(50):
        client.get("/", **at(address))
    assert takes == [1, 1, 1]


def test_access_tokens_good_or_bad_do_not_count_for_an_address(
    client: Client, switch_on: SwitchOn, make_user: MakeUser
) -> None:
    """Whose token has run out has to learn so, however busy the neighbours are."""
    user, address = make_user(), somewhere()
    switch_on(rate_limit_anonymous_per_minute=2)
    for _ in range(5):
        for token, status in ((user.token, 200), ("x", 401), (user.token[:-4] + "AAAA", 401)):
            assert client.get(ME, token=token, **at(address)).status_code == status
    assert [client.get("/", **at(address)).status_code for _ in range(3)] == [200, 200, 429]
    assert client.get(ME, token="x", **at(address)).status_code == 401


def test_a_refresh_token_that_is_genuine_does_not_count_and_a_forged_one_does(
    client: Client, switch_on: SwitchOn, make_user: MakeUser
) -> None:
    """Whatever others at the same address do, nobody there is kept from refreshing."""
    user, address = make_user(), somewhere()
    switch_on(rate_limit_anonymous_per_minute=3)

    def refresh(token: str) -> Any:
        return client.post(REFRESH, json={"refresh_token": token}, **at(address))

    def logout(**body: str) -> int:
        return client.post(LOGOUT, json=body, **at(address)).status_code

    token = user.refresh_token
    with later(0):
        for _ in range(5):
            token = refresh(token).json["refresh_token"]
        assert [refresh("x" * 80).status_code, logout(refresh_token="x" * 80)] == [401, 401]
        assert [logout(), logout(), refresh("x").status_code] == [401, 429, 429]
        assert_limited(refresh("x"), limit=3, within=60)
        token = refresh(token).json["refresh_token"]
        assert logout(refresh_token=token) == 204


def test_refreshing_counts_for_the_user(
    client: Client, switch_on: SwitchOn, make_user: MakeUser
) -> None:
    """Each refresh is a write and a signature: nobody has as many as they like."""
    user, other, address = make_user(), make_user(), somewhere()
    switch_on(rate_limit_user_per_minute=7, rate_limit_anonymous_per_minute=1)

    def refresh(token: str) -> Any:
        return client.post(REFRESH, json={"refresh_token": token}, **at(address))

    token = user.refresh_token
    with later(0):
        for _ in range(7):
            token = refresh(token).json["refresh_token"]
        assert_limited(refresh(token), limit=7, within=60)
        # Neither for their neighbours nor for good.
        assert refresh(other.refresh_token).status_code == 200
    with later(61):
        assert refresh(token).status_code == 200


def test_what_fails_for_a_reason_of_ours_does_not_count(
    client: Client, switch_on: SwitchOn, make_user: MakeUser, settings: Settings
) -> None:
    user, address = make_user(), somewhere()
    switch_on(rate_limit_anonymous_per_minute=1)
    body = {"refresh_token": user.refresh_token}
    away = replace(settings, database_url="postgresql+psycopg2://x:y@127.0.0.1:1/none")
    with pool_on(away, instead_of=settings):
        for _ in range(3):
            assert client.post(REFRESH, json=body, **at(address)).status_code == 503
    assert client.get("/", **at(address)).status_code == 200


def test_a_request_without_an_address_is_not_counted_by_it(
    client: Client, switch_on: SwitchOn
) -> None:
    switch_on(rate_limit_anonymous_per_minute=1)
    assert [client.get("/", **at(None)).status_code for _ in range(5)] == [200] * 5


def test_a_refusal_is_counted_in_the_metrics(client: Client, switch_on: SwitchOn) -> None:
    address = somewhere()
    switch_on(rate_limit_anonymous_per_minute=1)
    name = 'rate_limit_refusals_total{limit="anonymous"}'

    def refusals() -> float:
        lines = dict(
            line.rsplit(" ", 1) for line in metrics.exposition().decode().splitlines() if line
        )
        return float(lines.get(name, 0))

    before = refusals()
    for _ in range(4):
        client.get("/", **at(address))
    assert refusals() == before + 3


def test_the_settings_say_whether_anything_is_limited(settings: Settings, pool: None) -> None:
    limited = Client(
        create_app(replace(settings, rate_limit_enabled=True, rate_limit_anonymous_per_minute=1))
    )
    address = somewhere()
    statuses = [limited.get("/", **at(address)).status_code for _ in range(2)]
    assert statuses == [200, 429]
    unlimited = Client(create_app(settings))
    assert unlimited.get("/", **at(address)).status_code == 200
