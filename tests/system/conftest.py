"""What the system tests share: the image's files, and the settings of an installation."""

import base64
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from app import configure, create_app
from app.platform.settings import Settings
from tests import people
from tests.database import Databases, pool_on
from tests.network import free_port
from tests.people import TestUser
from tests.system.external_postgres import external_postgres
from tests.system.image_steps import Image, build
from tests.system.senders import CREDITS, USERS

COMMIT = "0123abc"
# To make the image takes a minute: one process does all that needs it.
OF_THE_IMAGE = {
    "test_account_pages.py",
    "test_browser_sign_in.py",
    "test_docs_page.py",
    "test_foreign_service.py",
    "test_image.py",
    "test_systemd_units.py",
}


class Schedule(LoadScopeScheduling):
    """Hands out whole files in their order, and those of the image together.

    xdist's marks for groups do nothing with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).name
        return "image" if file in OF_THE_IMAGE else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule:
    """Let two processes share the system tests."""
    config.option.loadscopereorder = False
    return Schedule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold the list of files against what their tests ask for."""
    users = {item.path.name for item in items if "image" in getattr(item, "fixturenames", ())}
    assert users <= OF_THE_IMAGE


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """What the Dockerfile makes."""
    root = Path(tempfile.mkdtemp(prefix="bursar-image-"))
    try:
        # The image's user passes through; pytest's own folders are private.
        root.chmod(0o755)
        yield build(root, COMMIT=COMMIT)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=True)
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def installation() -> Iterator[dict[str, str]]:
    """Everything an operator sets, with an empty database of one's own on another server."""
    port = free_port()
    with external_postgres() as urls:
        yield urls | {
            "APP_AUTH_MASTER_KEYS": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "APP_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "APP_SERVER_HOST": "127.0.0.1",
            "APP_SERVER_PORT": str(port),
        }


@pytest.fixture
def bank(databases: Databases, settings: Settings, pool: None) -> Iterator[Settings]:
    """The settings of a database of this test's own, which the pool is on meanwhile."""
    with databases.fresh(APP_LOG_LEVEL="info") as fresh, pool_on(fresh, instead_of=settings):
        yield fresh
    configure(settings)


@pytest.fixture
def users(bank: Settings) -> list[TestUser]:
    """Ten users with a thousand credits each, signed in."""
    app = create_app(bank)
    return [people.make_user(app, credits=CREDITS) for _ in range(USERS)]
