"""Speaks to the database past the application, as its owner or as the application's role."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from app.platform.settings import Settings

Books = dict[str, Any]


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection; what isn't committed is rolled back in the end."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def change(settings: Settings, user_id: Any, *, by: int) -> None:
    """Change what an account holds, past the ledger, as the tables' owner."""
    statement = text("UPDATE accounts SET balance = balance + :by WHERE id = :id")
    with connected(settings.database_migration_url) as connection, connection.begin():
        connection.execute(statement, {"by": by, "id": user_id})
