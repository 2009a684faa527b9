"""A database with the table of `things` and the pool on it, and a project folder for settings."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.platform import db
from app.platform.settings import PROJECT_ROOT, Settings, load_settings
from tests.database import Databases, pool_on
from tests.platform.loading import Load
from tests.platform.things import TABLES


@pytest.fixture(scope="module")
def own(databases: Databases) -> Iterator[Settings]:
    """A database of this module's own, whose pool has little patience."""
    with databases.unmigrated(APP_DATABASE_ACQUIRE_TIMEOUT="0.2") as settings:
        with db.one_connection(settings, migration=True) as connection:
            connection.exec_driver_sql(TABLES)
        yield settings


@pytest.fixture
def own_pool(own: Settings, request: pytest.FixtureRequest) -> Iterator[None]:
    """The pool, with four places, is on that database while the test runs."""
    before = request.getfixturevalue("settings") if db.pool_is_open() else None
    with pool_on(own, instead_of=before, size=4):
        yield


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load settings in a project folder of their own, which has the real files of config/."""
    shutil.copytree(PROJECT_ROOT / "config", tmp_path / "config")

    def load_there(environ: dict[str, str], **more: str) -> Settings:
        return load_settings({**environ, **more}, root=tmp_path)

    return load_there
