"""What commands share: the settings, a small pool, and how they write a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from flask import current_app

from app.platform import db
from app.platform.errors import AppError
from app.platform.settings import Settings


def settings() -> Settings:
    """Return the settings of the application that `flask` has made."""
    found: Settings = current_app.extensions["bursar"]
    return found


@contextmanager
def database() -> Iterator[None]:
    """Open a small pool for one command; a refusal becomes one sentence and exit code 1.

    Raises click.ClickException.
    """
    db.open_pool(settings(), size=1)
    try:
        yield
    except AppError as error:
        raise click.ClickException(error.text) from None
    finally:
        db.close_pool(timeout=1)


def time_text(moment: datetime) -> str:
    """Return a moment as commands print it: UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
