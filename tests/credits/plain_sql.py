"""Speaks to the database past the application, as its owner or as the application's role."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

Books = dict[str, Any]


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection; what isn't committed is rolled back in the end."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
