"""What belongs to the worker alone stays out of the web process, which would pay for it."""

import sys

from app.platform.settings import Settings
from tests.commands import program

# As gunicorn does: its configuration first, then the application.
LOADED = """
import runpy, sys
runpy.run_path("gunicorn.conf.py")
import wsgi
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_web_process_loads_neither_the_jobs_nor_their_driver(settings: Settings) -> None:
    done = program(settings, sys.executable, "-c", LOADED)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"gevent", "psycopg2", "flask", "app"} <= loaded
    assert not {"procrastinate", "psycopg", "psycopg_pool", "asgiref", "croniter"} & loaded
