"""Runs programs and the operator's commands as an operator does, on a database of the tests."""

import os
import subprocess
import sys

from app.platform.settings import PROJECT_ROOT, Settings
from tests import canaries
from tests.database import variables


def program(
    settings: Settings, *arguments: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with `typed` on its standard input, which it may repeat nowhere."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    ended = subprocess.run(
        arguments,
        cwd=PROJECT_ROOT,
        env=inherited | variables(settings),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    canaries.watch(*typed.splitlines())
    canaries.hear("what a command says", (ended.stdout + ended.stderr).encode())
    return ended


def flask(settings: Settings, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a `flask` command to its end, with `typed` on its standard input."""
    return program(settings, sys.executable, "-m", "flask", *arguments, typed=typed)
