"""What belongs to the worker alone stays out of the web process, which would pay for it."""

import sys

import pytest

from app.platform.settings import Settings
from tests.commands import program

# As gunicorn does: its configuration first, then the application, then what a worker opens.
LOADED = """
import runpy, sys
runpy.run_path("gunicorn.conf.py")
import wsgi
from app.platform import startup, tracing
tracing.start(startup.settings_or_exit())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def loaded(settings: Settings) -> set[str]:
    """The packages of a web process."""
    done = program(settings, sys.executable, "-c", LOADED)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_web_process_loads_neither_the_jobs_nor_their_driver(loaded: set[str]) -> None:
    assert {"gevent", "psycopg2", "flask", "app"} <= loaded
    assert not {"procrastinate", "psycopg", "psycopg_pool", "asgiref", "croniter"} & loaded


def test_without_a_collector_nothing_of_tracing_is_loaded(loaded: set[str]) -> None:
    assert not {"opentelemetry", "google", "wrapt", "requests", "urllib3"} & loaded
