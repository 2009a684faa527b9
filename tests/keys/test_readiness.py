"""A service that can't open its signing key says so, to balancers and to its operator."""

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from app import configure, create_app
from app.platform.settings import Settings
from tests.client import Client
from tests.people import TestUser


@pytest.fixture
def restored(app: Flask, settings: Settings, admin: TestUser) -> Iterator[Flask]:
    """The service on the same database, with another master key of the same version."""
    (version, _), *_ = settings.auth_master_keys
    yield create_app(replace(settings, auth_master_keys=((version, secrets.token_bytes(32)),)))
    configure(settings)


def test_a_master_key_that_does_not_fit_makes_the_service_unready(
    restored: Flask, admin: TestUser, capfd: pytest.CaptureFixture[str]
) -> None:
    client = Client(restored)
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert ready.json["checks"]["keys"] == "APP_AUTH_MASTER_KEYS doesn't open the signing key"
    login = client.post(
        "/api/v1/auth/login", json={"email": admin.email, "password": admin.password}
    )
    assert (login.status_code, login.json["error"]["code"]) == (503, "UNAVAILABLE")
    assert "signing_key_not_opened" in capfd.readouterr().err


def test_a_master_key_that_fits_makes_the_service_ready(client: Client) -> None:
    assert client.get("/ready").json["checks"]["keys"] == "ok"
