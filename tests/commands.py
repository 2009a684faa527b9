"""Runs programs and the operator's commands as an operator does, on a database of the tests."""

import os
import subprocess
import sys

import click

from app import create_app
from app.platform.settings import PROJECT_ROOT, Settings
from tests import canaries
from tests.database import variables, without_pool


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
    return _heard(ended, typed)


def flask(settings: Settings, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a `flask` command to its end, with `typed` on its standard input."""
    return program(settings, sys.executable, "-m", "flask", *arguments, typed=typed)


def command(
    settings: Settings, *arguments: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a `flask` command within this process, whose pool is on the same database.

    It says and does what it does by itself, seconds sooner. What a start is about (settings, exit
    codes of the interpreter) needs `flask`.
    """
    # The commands are there when it is `flask` that makes the application.
    with click.Context(click.Command("flask")):
        app = create_app(settings)
    with without_pool(settings):
        result = app.test_cli_runner().invoke(args=arguments, input=typed, catch_exceptions=False)
    ended = subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)
    return _heard(ended, typed)


def _heard(ended: subprocess.CompletedProcess[str], typed: str) -> subprocess.CompletedProcess[str]:
    canaries.watch(*typed.splitlines())
    canaries.hear("what a command says", (ended.stdout + ended.stderr).encode())
    return ended
