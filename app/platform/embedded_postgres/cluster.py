"""Makes PostgreSQL's data folder and reads the traces that a server leaves in it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from app.platform.embedded_postgres.place import (
    SOCKET_NAME,
    Account,
    EmbeddedPostgresError,
    Place,
)
from app.platform.processes import running_program

SUPERUSER = "postgres"
# Nothing of the caller's environment reaches the server: PGDATA or LC_ALL would change its ways.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
# A new data folder takes 39 MB and its first log segments 32 MB; a start needs one segment.
ROOM_FOR_NEW = 128 * 2**20
ROOM_FOR_START = 24 * 2**20
LAST_LINES = 6


def make_cluster(
    place: Place, *, programs: Path, password: str, durable: bool, say: Callable[[str], None]
) -> None:
    """Make the data folder, completely or not at all.

    The caller holds the lock on the place.

    Raises EmbeddedPostgresError or OSError.
    """
    if not place.account.is_named:
        raise EmbeddedPostgresError(
            f"The user with number {place.account.uid} has no name on this system, and PostgreSQL "
            f"can't create a database without one. Add the user to /etc/passwd, or set "
            f"APP_DATABASE_URL to use another server."
        )
    check_room(place.home, ROOM_FOR_NEW)
    say(f"Creating the database in {place.home} (some seconds, once)")
    new = place.home / "cluster.new"
    passwords = place.home / "password.new"
    for left_over in (new, passwords):
        _remove(left_over)
    try:
        descriptor = place.account.open_file(passwords)
        with os.fdopen(descriptor, "w") as file:
            file.write(password)
        _initdb(new, programs, passwords, place.account, durable)
        # A kill before this line leaves a folder that the next start throws away.
        new.rename(place.cluster)
    finally:
        for left_over in (new, passwords):
            _remove(left_over)


def check_room(folder: Path, needed: int) -> None:
    """Check that the disk of a folder has room, before PostgreSQL stops half way for want of it.

    Raises EmbeddedPostgresError.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EmbeddedPostgresError(
            f"The disk that holds {folder} is full: {free // 2**20} MB are free, and "
            f"{needed // 2**20} MB are needed. Make room, or choose another APP_DATA_DIR."
        )


def postmaster(place: Place) -> int | None:
    """Return the process id that the data folder names as its server; the process may be gone."""
    try:
        first, *_ = (place.cluster / "postmaster.pid").read_text().splitlines()
        return int(first)
    except (FileNotFoundError, ValueError):
        return None


def disown_reused_pid(place: Place) -> None:
    """Let PostgreSQL start although the process id of a killed server is taken.

    PostgreSQL refuses to start while its user has a process with the id in postmaster.pid, be it a
    zombie or another program that has got the number since. The caller has made sure that no
    server listens on the socket.

    Raises OSError.
    """
    pid = postmaster(place)
    if pid is None or running_program(pid) == "postgres":
        return
    # The file must stay: it names the shared memory by which PostgreSQL finds processes of the
    # killed server that still write. The id of its own parent it takes for a stale one.
    descriptor = os.open(place.cluster / "postmaster.pid", os.O_RDWR | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "r+") as file:
        lines = file.read().splitlines(keepends=True)
        file.seek(0)
        file.truncate()
        file.writelines([f"{os.getpid()}\n", *lines[1:]])
    (place.sockets / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def last_lines(text: str) -> str:
    """Return the end of a program's output, to be quoted in an error."""
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


def _initdb(new: Path, programs: Path, passwords: Path, account: Account, durable: bool) -> None:
    """Run initdb; a Unix socket with a password is the only way in."""
    done = subprocess.run(
        [
            str(programs / "initdb"),
            f"--pgdata={new}",
            f"--username={SUPERUSER}",
            f"--pwfile={passwords}",
            "--auth-local=scram-sha-256",
            "--auth-host=reject",
            "--encoding=UTF8",
            # The same order and case rules on every system, independent of its locales.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--text-search-config=simple",
            "--no-instructions",
            *([] if durable else ["--no-sync"]),
        ],
        cwd=new.parent,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
        **account.identity(),
    )
    if done.returncode != 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL couldn't create its data folder in {new.parent}. It said:\n"
            f"{last_lines(done.stdout)}"
        )


def _remove(path: Path) -> None:
    """Remove a file or a folder, or nothing when it isn't there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
