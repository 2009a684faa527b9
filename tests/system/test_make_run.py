"""What somebody meets who clones the repository and types `make run`, as root and as anybody."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.platform.embedded_postgres.place import settle
from app.platform.embedded_postgres.process import listens
from tests.launcher.running import ROOT, Run, stop
from tests.network import free_port
from tests.system.test_launcher_run import users

IS_ROOT = os.geteuid() == 0
# Installing takes most of it.
PATIENCE = 300.0
MAKE = ("env", "-u", "HOME", "make", "run")


@dataclass(frozen=True)
class Clone:
    """A clone, and the user who works in it."""

    folder: Path
    identity: dict[str, Any]

    @property
    def data_dir(self) -> Path:
        """Return the folder that the service keeps its data in when nobody chose one."""
        return self.folder / "var"

    def make_run(self, *arguments: str) -> Run:
        """Type `make run`."""
        variables = {"APP_ENV": "development"}
        if IS_ROOT and self.identity:
            # Nothing of root's, which this user can't enter.
            variables["PATH"] = "/usr/local/bin:/usr/bin:/bin"
        return Run(
            self.data_dir,
            port=free_port(),
            command=(*MAKE, *arguments),
            cwd=self.folder,
            identity=self.identity,
            **variables,
        )


@contextmanager
def cloned(identity: dict[str, Any]) -> Iterator[Clone]:
    """Copy what the repository holds into a folder that nobody else can enter."""
    folder = Path(tempfile.mkdtemp(prefix="bursar-clone-"))
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    held = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    try:
        for name in filter(None, held.split("\0")):
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        if identity:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, identity["user"], identity["group"])
        yield Clone(folder=folder, identity=identity)
    finally:
        link = folder / "var" / "postgres"
        if link.is_symlink():
            shutil.rmtree(link.readlink(), ignore_errors=True)
        shutil.rmtree(folder)


def somebody() -> dict[str, Any]:
    """Return how to start a program as a normal user: ourselves, or `nobody` when we are root."""
    if not IS_ROOT:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def live_through_kills(clone: Clone) -> Run:
    """Run, commit, kill and run again; return the first run, which has ended."""
    first = clone.make_run()
    runs = [first]
    try:
        first.until(patience=PATIENCE)
        assert first.status("/ready") == 200
        assert "Created administrator" in first.create_admin("ada@example.com")
        first.end(signal.SIGKILL)
        runs.append(clone.make_run())
        runs[1].until()
        assert "Installing" not in runs[1].output
        assert users(clone.data_dir) == ["ada@example.com"]
        runs[1].create_admin("bob@example.com")
        os.kill(runs[1].postgres(), signal.SIGKILL)
        assert runs[1].end() != 0
        (clone.folder / "requirements.txt").touch()
        runs.append(clone.make_run())
        runs[2].until()
        assert "Installing" not in runs[2].output
        assert users(clone.data_dir) == ["ada@example.com", "bob@example.com"]
        runs[2].end(signal.SIGTERM)
        assert runs[2].output.count("Stopped\n") == 1
        assert not listens(settle(clone.data_dir))
    finally:
        for run in runs:
            stop(run)
    assert not any("Traceback" in run.output for run in runs)
    return first


@pytest.mark.parametrize("who", ["root", "somebody"] if IS_ROOT else ["somebody"])
def test_a_clone_runs_without_a_home_and_loses_nothing_in_kills(who: str) -> None:
    with cloned({} if who == "root" else somebody()) as clone:
        mode = clone.folder.stat().st_mode
        first = live_through_kills(clone)
        assert clone.folder.stat().st_mode == mode
        if who == "root":
            # The folder is root's alone, so the user who runs PostgreSQL can't enter it.
            assert "Creating the database in /var/lib/bursar/" in first.output
            home = settle(clone.data_dir).home.stat()
            assert home.st_uid != 0
            assert home.st_mode & 0o077 == 0
        else:
            assert f"Creating the database in {clone.data_dir}/postgres" in first.output
        if IS_ROOT and who != "root":
            a_user_id_without_a_name_is_told_so(clone)


def a_user_id_without_a_name_is_told_so(clone: Clone) -> None:
    """Run as a user of whom the system knows only the number, as containers do."""
    for folder in (clone.folder, *(path for path in clone.folder.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o777)
        run = Run(
            Path(open_to_all) / "data",
            port=free_port(),
            command=(str(clone.folder / ".venv/bin/python"), "-m", "app.launcher"),
            cwd=clone.folder,
            identity={"user": 54321, "group": 54321, "extra_groups": []},
        )
        assert run.end() == 1
        assert "The user with number 54321 has no name on this system" in run.output


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("exit 127", "Python 3.11 or newer is needed"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
)
def test_what_is_missing_is_named_with_its_package(python: str, sentence: str) -> None:
    with cloned({}) as clone:
        fake = clone.folder / "fake-python"
        fake.write_text(f"#!/bin/sh\n{python}\n")
        fake.chmod(0o755)
        run = clone.make_run(f"PYTHON={fake}")
        assert run.end() != 0
        assert sentence in run.output
        assert not (clone.folder / ".venv").exists()


def test_a_missing_python_is_named_with_its_packages() -> None:
    with cloned({}) as clone:
        run = clone.make_run("PYTHON=python-that-is-not-there")
        assert run.end() != 0
        assert "apt install python3 python3-venv" in run.output
