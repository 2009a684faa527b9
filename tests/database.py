"""Gives the tests their PostgreSQL: one server for a run, a migrated template, and clones of it.

`TEST_DATABASE_URL` names any server where its user may create databases and roles; otherwise the
embedded server is started in memory. Everything made here has names of its own and is removed at
the end of the run.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from sqlalchemy import URL, make_url

from app.platform import db, migrations
from app.platform.embedded_postgres import EmbeddedPostgres
from app.platform.settings import Settings, load_settings

MEMORY = Path("/dev/shm")
ROOM_IN_MEMORY = 1 << 30
# The pools of the test processes and of what they start, and connections that were left hanging.
# Nothing lives for long enough to be vacuumed, or to be brought to the disk in time.
SERVER = {
    "max_connections": "150",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
}
POOL_SIZE = 20


@dataclass(frozen=True, kw_only=True)
class Databases:
    """Where this run's databases are; `prefix` begins the names of them all."""

    superuser_url: str = field(repr=False)
    prefix: str
    password: str = field(repr=False)
    folder: str

    @property
    def owner(self) -> str:
        """Return the role that owns the tables."""
        return f"{self.prefix}_owner"

    @property
    def application(self) -> str:
        """Return the role that the service connects as."""
        return f"{self.prefix}_app"

    @property
    def template(self) -> str:
        """Return the database that was migrated, and that all others are copies of."""
        return f"{self.prefix}_template"

    def settings(self, database: str, **variables: str) -> Settings:
        """Return the test environment's settings for one of the databases, as if by `variables`."""
        return load_settings(
            {
                "APP_ENV": "test",
                "APP_DATA_DIR": self.folder,
                "APP_DATABASE_URL": self._url(self.application, database),
                "APP_DATABASE_MIGRATION_URL": self._url(self.owner, database),
                **variables,
            }
        )

    def execute(self, statement: str, *names: str) -> None:
        """Execute a statement as the superuser, `{}` standing for quoted names."""
        with closing(psycopg2.connect(self.superuser_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def create(self, *, template: str | None = None) -> str:
        """Create a database, empty or as a copy, and return its name."""
        name = f"{self.prefix}_{secrets.token_hex(4)}"
        # Copying the files is faster for a small database than writing them to the log.
        how = "TEMPLATE {} STRATEGY file_copy" if template else "TEMPLATE template0"
        names = [template] if template else []
        self.execute(f"CREATE DATABASE {{}} OWNER {{}} {how}", name, self.owner, *names)
        return name

    def drop(self, name: str) -> None:
        """Drop a database, with whoever is still connected to it."""
        self.execute("DROP DATABASE {} WITH (FORCE)", name)

    @contextmanager
    def fresh(self, **variables: str) -> Iterator[Settings]:
        """Give the settings of a fresh copy of the template."""
        name = self.create(template=self.template)
        try:
            yield self.settings(name, **variables)
        finally:
            self.drop(name)

    @contextmanager
    def unmigrated(self, **variables: str) -> Iterator[Settings]:
        """Give the settings of a database without a table."""
        name = self.create()
        try:
            yield self.settings(name, **variables)
        finally:
            self.drop(name)

    def _url(self, role: str, database: str) -> str:
        url: URL = make_url(self.superuser_url).set(
            drivername="postgresql", username=role, password=self.password, database=database
        )
        return url.render_as_string(hide_password=False)


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment variables with which a program works on the same database."""
    return {
        "APP_ENV": settings.env,
        "APP_DATA_DIR": str(settings.data_dir),
        "APP_DATABASE_URL": settings.database_url,
        "APP_DATABASE_MIGRATION_URL": settings.database_migration_url,
        "APP_DATABASE_POOLER": str(settings.database_pooler).lower(),
    }


@contextmanager
def run() -> Iterator[dict[str, Any]]:
    """Start the run's server, migrate the template, and give what `Databases` is made of."""
    with _folder() as folder, _server(folder) as superuser_url:
        databases = Databases(
            superuser_url=superuser_url,
            prefix=f"bursar_test_{secrets.token_hex(4)}",
            password=secrets.token_hex(16),
            folder=str(folder / "data"),
        )
        try:
            _make_roles_and_template(databases)
            yield asdict(databases)
        finally:
            _remove(databases)


def _make_roles_and_template(databases: Databases) -> None:
    for role in (databases.owner, databases.application):
        databases.execute(f"CREATE ROLE {{}} LOGIN PASSWORD '{databases.password}'", role)
        # Without being a superuser, one must be a member of the role to give it a database.
        databases.execute("GRANT {} TO CURRENT_USER", role)
    databases.execute("CREATE DATABASE {} OWNER {}", databases.template, databases.owner)
    migrations.upgrade(databases.settings(databases.template))


def _remove(databases: Databases) -> None:
    with (
        closing(psycopg2.connect(databases.superuser_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)",
            (f"{databases.prefix}_",),
        )
        names = [name for (name,) in cursor.fetchall()]
    for name in names:
        databases.drop(name)
    databases.execute("DROP ROLE IF EXISTS {}, {}", databases.owner, databases.application)


@contextmanager
def _folder() -> Iterator[Path]:
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_IN_MEMORY
    folder = Path(tempfile.mkdtemp(prefix="bursar-tests-", dir=MEMORY if in_memory else None))
    try:
        # As root the server runs as another user, who must be able to pass through.
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield make_url(given).set(drivername="postgresql").render_as_string(hide_password=False)
        return
    server = EmbeddedPostgres.start(
        folder / "server", say=lambda _line: None, durable=False, settings=SERVER
    )
    try:
        yield server.superuser_dsn()
    finally:
        server.stop(immediate=True)


@contextmanager
def pool_on(
    settings: Settings, *, instead_of: Settings | None = None, size: int = POOL_SIZE
) -> Iterator[None]:
    """Let this process's pool be on a database for a while, then on the one it was on before."""
    db.close_pool(5)
    db.open_pool(settings, size=size)
    try:
        yield
    finally:
        db.close_pool(5)
        if instead_of is not None:
            db.open_pool(instead_of, size=POOL_SIZE)


@contextmanager
def without_pool(settings: Settings) -> Iterator[None]:
    """Let this process have no pool for a while, then the one on this database again."""
    db.close_pool(5)
    try:
        yield
    finally:
        db.open_pool(settings, size=POOL_SIZE)
