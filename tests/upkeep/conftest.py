"""Lets commands run on other databases than that of this process, and the doctor find faults."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from flask import Flask

from app import configure
from app.keys import master, rotation
from app.platform import db, migrations
from app.platform.embedded_postgres import EmbeddedPostgres, urls
from app.platform.settings import Settings, load_settings
from app.upkeep import doctor
from tests import commands
from tests.database import POOL_SIZE, pool_on, without_pool
from tests.upkeep.installing import Find, Installation


@pytest.fixture
def command(settings: Settings, app: Flask) -> Iterator[Callable[..., CompletedProcess[str]]]:
    """A function that runs a `flask` command, on any database.

    It makes an application and leaves a pool there: this process gets its own ones back.
    """
    yield commands.command
    db.close_pool(5)
    db.open_pool(settings, size=POOL_SIZE)
    configure(settings)


@pytest.fixture(scope="module")
def installed(settings: Settings, pool: None) -> Iterator[Installation]:
    """A whole installation without a fault: durable server, two roles, tables, a signing key."""
    with tempfile.TemporaryDirectory(prefix="bursar-doctor-") as folder:
        Path(folder).chmod(0o711)
        data = Path(folder, "data")
        server = EmbeddedPostgres.start(data, say=lambda _: None)
        try:
            application, owner = urls(data)
            found = load_settings(
                {
                    "APP_ENV": "test",
                    "APP_DATA_DIR": str(data),
                    "APP_DATABASE_URL": application,
                    "APP_DATABASE_MIGRATION_URL": owner,
                    "APP_DATABASE_MAX_CONNECTIONS": "5",
                    "APP_SERVER_WORKERS": "2",
                }
            )
            migrations.upgrade(found)
            with pool_on(found, instead_of=settings):
                configure(found)
                rotation.advance()
            configure(settings)
            yield Installation(settings=found, superuser=server.superuser_dsn())
        finally:
            server.stop(immediate=True)


@pytest.fixture
def find(settings: Settings, app: Flask) -> Iterator[Find]:
    """A function that returns what the doctor finds, as the command says it."""

    def examine(examined: Settings, machines: int = 1) -> list[str]:
        master.configure(examined.auth_master_keys)
        with without_pool(settings):
            return [
                f"{part}: {finding.weight}: {finding.sentence}"
                for part, findings in doctor.examine(examined, machines=machines)
                for finding in findings
            ]

    yield examine
    configure(settings)
