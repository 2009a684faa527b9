"""Probes, metrics and the front page, on a small application of their own."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, Response
from werkzeug.test import Client

from app.platform import db, errors, health
from app.platform.edge import Edge
from app.platform.settings import Settings


def client(settings: Settings, **changes: Any) -> Client:
    """Return a client of an application that has nothing but the probes."""
    settings = replace(settings, **changes)
    app = Flask("probes")
    health.install(app, settings, checks={}, gauges=[])

    def refuse(error: errors.AppError) -> Response:
        return Response(error.code, error.status, dict(error.headers))

    app.register_error_handler(errors.AppError, refuse)
    return Client(Edge(app.wsgi_app, settings=settings))


@pytest.fixture
def stopping() -> Iterator[Callable[[], None]]:
    """A function that says that the process stops; afterwards it doesn't."""
    yield health.announce_stop
    vars(health)["_stopping"][0] = 0


@pytest.mark.parametrize("path", ["/health", "/healthz", "/health?unknown=1"])
def test_health_is_alive_and_needs_no_database(settings: Settings, path: str) -> None:
    answer = client(settings).get(path)
    assert answer.status_code == 200
    assert answer.json == {"status": "ok", "version": settings.version}
    assert answer.headers["Cache-Control"] == "no-store"
    head = client(settings).head(path)
    assert (head.status_code, head.data) == (200, b"")


def test_a_service_with_a_migrated_database_is_ready(settings: Settings, pool: None) -> None:
    answer = client(settings).get("/ready?unknown=1")
    assert answer.status_code == 200
    assert answer.json == {"status": "ready", "checks": {"database": "ok", "migrations": "ok"}}


def test_a_database_that_is_behind_is_not_ready_and_one_that_is_ahead_is(
    settings: Settings, sql: Callable[..., Any], pool: None
) -> None:
    current = sql("SELECT version_num FROM alembic_version")[0][0]
    try:
        for revision, status, result in (("0000_old", 503, "behind"), ("9999_new", 200, "ok")):
            sql("UPDATE alembic_version SET version_num = :revision", revision=revision)
            answer = client(settings).get("/ready")
            assert (answer.status_code, answer.json["checks"]["migrations"]) == (status, result)
    finally:
        sql("UPDATE alembic_version SET version_num = :current", current=current)


def test_a_result_is_kept_for_a_second(
    settings: Settings, sql: Callable[..., Any], pool: None
) -> None:
    asked = client(settings)
    current = sql("SELECT version_num FROM alembic_version")[0][0]
    assert asked.get("/ready").status_code == 200
    try:
        sql("UPDATE alembic_version SET version_num = '0000_old'")
        assert asked.get("/ready").status_code == 200
    finally:
        sql("UPDATE alembic_version SET version_num = :current", current=current)


def test_a_worker_without_a_pool_is_not_ready(settings: Settings) -> None:
    answers: list[Any] = []
    pool, db._pool = db._pool, None
    try:
        answers.append(client(settings).get("/ready"))
    finally:
        db._pool = pool
    (answer,) = answers
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json["status"] == "not ready"
    assert answer.json["checks"]["database"] == "unreachable"


def test_a_process_that_stops_is_not_ready(
    settings: Settings, pool: None, stopping: Callable[[], None]
) -> None:
    asked = client(settings)
    assert asked.get("/ready").status_code == 200
    stopping()
    answer = asked.get("/ready")
    assert (answer.status_code, answer.json["checks"]) == (503, {"service": "stopping"})
    assert asked.get("/health").status_code == 200


def test_the_front_page_says_what_this_is(settings: Settings) -> None:
    answer = client(settings).get("/")
    assert answer.json == {"name": "bursar", "version": settings.version, "docs": "/docs"}
    assert answer.headers["Vary"] == "Accept"
    page = client(settings).get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["Location"]) == (303, "/docs")


def test_the_metrics_are_open_in_development_and_closed_in_production(settings: Settings) -> None:
    assert client(settings).get("/metrics").status_code == 200
    closed = client(settings, env="production").get("/metrics")
    assert (closed.status_code, closed.text) == (404, "NOT_FOUND")


def test_the_metrics_may_ask_for_a_token(settings: Settings) -> None:
    asked = client(settings, env="production", metrics_token="a-token")
    for sent in ({}, {"Authorization": "Bearer another"}, {"Authorization": "a-token"}):
        refused = asked.get("/metrics", headers=sent)
        assert (refused.status_code, refused.text) == (401, "UNAUTHENTICATED")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    # An answer counts once it has been read to its end.
    assert asked.get("/health", buffered=True).status_code == 200
    found = asked.get("/metrics", headers={"Authorization": "Bearer a-token"})
    assert found.status_code == 200
    assert found.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "http_requests_total" in found.text


def test_the_metrics_of_an_address_of_their_own_are_only_there(settings: Settings) -> None:
    asked = client(settings, env="production", metrics_bind="127.0.0.1:9100")
    assert asked.get("/metrics").status_code == 404
    there = {"SERVER_PORT": "9100"}
    assert asked.get("/metrics", environ_overrides=there).status_code == 200
    elsewhere = asked.get("/", environ_overrides=there)
    assert elsewhere.json["error"]["code"] == "NOT_FOUND"


def test_many_probes_at_once_ask_the_database_once(settings: Settings, pool: None) -> None:
    readiness = health.Readiness({})
    found: list[int] = []
    probes = [threading.Thread(target=lambda: found.append(id(readiness.checks()))) for _ in "1234"]
    for probe in probes:
        probe.start()
    for probe in probes:
        probe.join()
    assert len(set(found)) == 1
