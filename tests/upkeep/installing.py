"""An installation for the doctor to look at, whose server can be changed for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2

from app.platform.settings import Settings

Find = Callable[..., list[str]]


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A server that keeps what it acknowledges, and the settings that lead to a database on it."""

    settings: Settings
    superuser: str

    def execute(self, *statements: str) -> None:
        """Execute statements as the superuser, in the service's database."""
        parameters = psycopg2.extensions.parse_dsn(self.superuser) | {"dbname": "bursar"}
        connection = psycopg2.connect(**parameters)
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    @contextmanager
    def changed(self, change: str, back: str) -> Iterator[None]:
        """Change something of the server for a while."""
        self.execute(change)
        try:
            yield
        finally:
            self.execute(back)
