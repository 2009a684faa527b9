"""Makes a backup: one file that is there as a whole, or not at all."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from sqlalchemy.exc import OperationalError

from app.platform import db, migrations
from app.platform.settings import Settings
from app.upkeep import programs
from app.upkeep.programs import ProgramFailed

OPTIONS = (
    "--format=custom",
    # Counters of limits, which a crash of the server forgets, too.
    "--no-unlogged-table-data",
    # A backup reads every table, which a migration may be changing: it waits so long for that.
    "--lock-wait-timeout=60s",
)


class BackupFailed(Exception):
    """There is no backup; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was made: its size in bytes, the tables' revision, and how long it took."""

    size: int
    revision: str
    seconds: float


def make(settings: Settings, file: Path) -> Backup:
    """Write the database as it is at one moment into a new file that only this user may read.

    What was committed before the call is in it. It disturbs nobody but migrations. The file gets
    its name once pg_dump has it on the disk and it was read to its end.

    Raises BackupFailed.
    """
    begun = monotonic()
    if file.exists():
        raise BackupFailed(f"{file} is there already, and no backup is overwritten.")
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        server, revision = _look(settings)
        pg_dump = programs.find("pg_dump", least=server)
        # pg_dump keeps the permissions of a file that is there.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            programs.run(pg_dump, *OPTIONS, f"--file={part}", url=settings.database_migration_url)
            # What can't be read to its end is no backup.
            programs.run(pg_dump.with_name("pg_restore"), "--file=/dev/null", part)
            size = part.stat().st_size
            part.rename(file)
            _write_down(file.parent)
        finally:
            part.unlink(missing_ok=True)
    except ProgramFailed as failure:
        raise BackupFailed(str(failure)) from None
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise BackupFailed(f"The database can't be reached: {reason}") from None
    except OSError as error:
        raise BackupFailed(f"{file} can't be written: {error.strerror}.") from None
    return Backup(size=size, revision=revision, seconds=monotonic() - begun)


def _look(settings: Settings) -> tuple[int, str]:
    """Return the server's major version, and the revision of the tables.

    Raises BackupFailed or OperationalError.
    """
    with db.one_connection(settings, migration=True) as connection:
        version = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
        revision = migrations.current_revision(connection)
    if revision is None:
        raise BackupFailed("The database has no tables yet: run flask db upgrade.")
    return version // 10_000, revision


def _write_down(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
