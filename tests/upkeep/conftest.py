"""Lets commands run on other databases than that of this process."""

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest
from flask import Flask

from app import create_app
from app.platform import db
from app.platform.settings import Settings
from tests import commands
from tests.database import POOL_SIZE


@pytest.fixture
def command(settings: Settings, app: Flask) -> Iterator[Callable[..., CompletedProcess[str]]]:
    """A function that runs a `flask` command, on any database.

    It makes an application and leaves a pool there: this process gets its own ones back.
    """
    yield commands.command
    db.close_pool(5)
    db.open_pool(settings, size=POOL_SIZE)
    create_app(settings)
