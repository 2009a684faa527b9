"""Brings the database's tables to the state that this version of the code needs."""

import logging
from functools import cache
from typing import TYPE_CHECKING, Final

from app.platform.settings import PROJECT_ROOT, Settings

# The launcher asks for the revision at each start: what only a migration needs is imported by it.
if TYPE_CHECKING:
    from alembic.config import Config
    from flask import Flask
    from sqlalchemy import Connection

DIRECTORY: Final = PROJECT_ROOT / "migrations"
# The oldest schema that this code runs on. What came after it is no more than indexes and checks,
# or isn't there yet: so it may be deployed before, while or after the database is migrated to it.
LEAST_REVISION: Final = "0028_trace"
# The revision, and the oldest code that the schema serves as `contract` of
# migrations/contracting.py has written it down; NULL while it serves all.
RECORDED: Final = (
    "SELECT version_num, obj_description('alembic_version'::regclass, 'pg_class')"
    " FROM alembic_version"
)
# The first migration makes the table before it lets the service's role read it.
READABLE: Final = "SELECT has_table_privilege(to_regclass('alembic_version'), 'SELECT')"
OK, BEHIND, AHEAD = "ok", "behind", "ahead"

# Alembic names each of its plugins whenever it is imported, which tells an operator nothing.
logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)


def install(app: "Flask", settings: Settings) -> None:
    """Add the commands `flask db …` to the application, on its database."""
    # Alembic is imported where it is needed: it costs each worker 6 MB.
    from flask_migrate import Migrate

    migrate = Migrate(directory=str(DIRECTORY))
    migrate.init_app(app)

    def hand_over(config: "Config") -> "Config":
        return _prepared(config, settings)

    migrate.configure(hand_over)


def upgrade(settings: Settings) -> None:
    """Run all migrations that the database lacks, as the tables' owner.

    Processes that do this at once wait for each other. A migration is applied whole or not at all.

    Raises alembic.util.CommandError or sqlalchemy.exc.DBAPIError.
    """
    from alembic import command

    command.upgrade(configuration(settings), "head")


def configuration(settings: Settings) -> "Config":
    """Return what Alembic's commands need in order to work on this database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    return _prepared(config, settings)


@cache
def head_revision() -> str:
    """Return the revision that this code needs: the last file's name, for they are numbered."""
    return max(path.stem for path in (DIRECTORY / "versions").glob("[0-9]*.py"))


def current_revision(connection: "Connection") -> str | None:
    """Return the revision of a database, or None when nothing was ever migrated."""
    return _recorded(connection)[0]


def state(connection: "Connection") -> str:
    """Return what `judge` says of a database."""
    return judge(*_recorded(connection))


def judge(revision: str | None, serves_from: str | None) -> str:
    """Say whether this code runs on a schema: `ok`, `behind` or `ahead`.

    One that is newer than the code serves it, for a database is migrated before the last old
    process has gone; unless a migration has said that it serves only code from `serves_from` on.
    """
    if revision is None or revision < LEAST_REVISION:
        return BEHIND
    return AHEAD if serves_from is not None and serves_from > head_revision() else OK


def _recorded(connection: "Connection") -> tuple[str | None, str | None]:
    if not connection.exec_driver_sql(READABLE).scalar():
        return None, None
    revision, serves_from = connection.exec_driver_sql(RECORDED).one_or_none() or (None, None)
    return revision, serves_from


def _prepared(config: "Config", settings: Settings) -> "Config":
    """Give `migrations/env.py` what it needs, and name new files as `head_revision` reads them."""
    config.attributes["settings"] = settings
    config.set_main_option("file_template", "%%(rev)s")
    return config
