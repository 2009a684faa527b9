"""Settings of mail, and a server that takes it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.platform.settings import Settings
from tests.mail.smtp_server import SmtpServer, smtp_server


@pytest.fixture
def given_settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a sender and a folder of their own, and without a server."""
    return replace(
        settings,
        public_url="https://bursar.acme.org",
        mail_from="Acme Bürsar <no-reply@acme.org>",
        data_dir=tmp_path / "data",
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    """A server without TLS and without a login."""
    with smtp_server(tmp_path_factory.mktemp("smtp")) as running:
        yield running


@pytest.fixture
def reaching(given_settings: Settings, server: SmtpServer) -> Settings:
    """Settings with that server, which behaves well at first."""
    server.mode("ok")
    return replace(given_settings, mail_url=server.url)
