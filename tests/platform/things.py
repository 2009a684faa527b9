"""A table that no feature has, for tests of the way to the database itself."""

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.platform import db
from app.platform.settings import Settings

TABLES = """
CREATE TABLE things (id bigint CONSTRAINT pk_things PRIMARY KEY, name text NOT NULL,
    CONSTRAINT ck_things_name CHECK (name <> 'bad'));
GRANT ALL ON things TO PUBLIC;
"""


class Tables(DeclarativeBase):
    """Tables of these tests only."""


class Thing(Tables):
    """A row that nothing else cares for."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def names(condition: str = "true") -> list[str]:
    with db.reading() as connection:
        return list(connection.scalars(text(f"SELECT name FROM things WHERE {condition}")))


def add(identity: int, name: str = "x") -> None:
    with db.transaction() as session:
        session.add(Thing(id=identity, name=name))


def execute(*statements: str) -> None:
    """Execute statements in one transaction."""
    with db.transaction() as session:
        for statement in statements:
            session.execute(text(statement))


def terminate_all(settings: Settings) -> None:
    """End every connection of the database, as a restart of the server does."""
    end = text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with db.one_connection(settings) as connection:
        connection.execute(end)
