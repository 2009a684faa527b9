"""A PostgreSQL that isn't ours: Debian's, on loopback, prepared as compose.yaml prepares it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.network import free_port
from tests.system.debian import postgresql

ROLES = Path(__file__).resolve().parents[2] / "deploy" / "roles.sql"
PASSWORDS = {"BURSAR_OWNER_PASSWORD": "6f1d9c0aowner", "BURSAR_APP_PASSWORD": "b83e75d2app"}


@contextmanager
def external_postgres() -> Iterator[dict[str, str]]:
    """Run a server until the block ends; give the settings that lead to its empty database."""
    programs, port = postgresql(), free_port()
    # Nobody else may enter it, so its socket needs no password.
    folder = Path(tempfile.mkdtemp(prefix="bursar-postgres-"))
    # PostgreSQL refuses to run as root; its package has made a user for it.
    identity: dict[str, Any] = {}
    if os.getuid() == 0:
        identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [programs / program, *arguments],
            cwd=folder,
            env=os.environ | PASSWORDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            **identity,
        )

    data, log = str(folder / "data"), str(folder / "log")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    superuser = f"host={folder} port={port} user=postgres dbname=postgres"
    try:
        run(
            "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        )
        run("pg_ctl", "start", "-w", "-s", "-D", data, "-l", log, "-o", options)
        try:
            run("psql", "--quiet", "-v", "ON_ERROR_STOP=1", "-f", str(ROLES), superuser)
            yield {
                "APP_DATABASE_URL": url_of("bursar_app", PASSWORDS["BURSAR_APP_PASSWORD"], port),
                "APP_DATABASE_MIGRATION_URL": url_of(
                    "bursar_owner", PASSWORDS["BURSAR_OWNER_PASSWORD"], port
                ),
            }
        finally:
            run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder)


def url_of(role: str, password: str, port: int) -> str:
    """Return the URL of the service's database."""
    return f"postgresql://{role}:{password}@127.0.0.1:{port}/bursar"
