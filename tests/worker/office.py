"""A database of its own for each test, as the worker finds it, and mails to be sent in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row, create_engine, text
from sqlalchemy.pool import NullPool

from app.mail import service as mails
from app.mail.values import Kind
from app.platform.db import transaction
from app.platform.settings import Settings
from app.worker import tasks


@dataclass(frozen=True, kw_only=True)
class Office:
    """What the web process leaves to be done, and what came of it."""

    settings: Settings
    engine: Engine

    def ask(self, number: int = 1) -> list[UUID]:
        """Ask for mails to people who want to sign up, each in a transaction of its own."""
        asked = []
        for each in range(number):
            with transaction() as session:
                email = f"ada-{each}@example.com"
                asked.append(
                    mails.request(session, Kind.SIGN_UP, email=email, facts={"name": "Ada"})
                )
        return asked

    def sql(self, statement: str, **parameters: Any) -> list[Row[Any]]:
        """Execute a statement as the owner of the tables, in a transaction of its own."""
        with self.engine.connect() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    @contextmanager
    def holding(self, statement: str) -> Iterator[None]:
        """Keep the locks of a statement, in a transaction of the owner's, until the block ends."""
        with self.engine.connect() as autocommit:
            connection = autocommit.execution_options(isolation_level="READ COMMITTED")
            connection.exec_driver_sql(statement)
            yield
            connection.rollback()

    def states(self) -> set[str]:
        """Return how far the mails have come, all of them."""
        return {state for (state,) in self.sql("SELECT state FROM mails")}

    def jobs(self) -> list[Row[Any]]:
        """Return the jobs that are there, but for those that come by themselves."""
        return self.sql(
            "SELECT * FROM procrastinate_jobs WHERE task_name <> ALL(:by_themselves) ORDER BY id",
            by_themselves=sorted(tasks.BY_THEMSELVES),
        )

    def arrived(self, mail_id: UUID) -> bool:
        """Tell whether a mail lies in development's folder."""
        return (self.settings.data_dir / "mail" / f"{mail_id}.eml").exists()


@contextmanager
def opened(settings: Settings) -> Iterator[Office]:
    """Give an office on the database that this process's pool is on."""
    engine = create_engine(
        settings.database_migration_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    yield Office(settings=settings, engine=engine)
    engine.dispose()


@pytest.fixture
def office(empty_database: Settings) -> Iterator[Office]:
    """A database without users."""
    with opened(empty_database) as office:
        yield office
