"""Tries new settings out in a process of its own, before any worker is replaced for them.

What a worker does as it starts changes its process for good, and what goes wrong then ends the
whole service. Here it ends a process that nobody needs.
"""

import copy
import os
import select
import signal
import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import orjson

from app.platform import db, health, log_lines, logging, psycopg2_gevent, startup
from app.platform.settings import Settings, SettingsError

TRIAL_SECONDS = 15.0
log = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial: `problems` when there wouldn't even be a worker, and what one lacks.

    `faults` are the checks of `/ready` that it doesn't pass, `connections` the size of its pool.
    """

    problems: list[str]
    faults: dict[str, str] = field(default_factory=dict)
    connections: int | None = None


def run(server: Any, settings: Settings) -> Outcome:
    """Start as a worker with these settings would, and tell how far that went.

    Called in gunicorn's master, in which it changes nothing; takes TRIAL_SECONDS at most.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _report(server, settings, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = _read(pipe.fileno())
    if said is None:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if said is None:
        return Outcome([f"A worker didn't start with them within {TRIAL_SECONDS:g} s."])
    # It says nothing when it was killed, because memory was short for instance.
    return Outcome(**orjson.loads(said)) if said else Outcome(["A worker ended as it started."])


def forget_application(application: Any) -> None:
    """Let gunicorn make the WSGI application anew when it asks for it, with the settings of then.

    Only the module that makes it is run again; all others keep the code that they have.
    """
    application.callable = None
    sys.modules.pop(application.app_uri.partition(":")[0], None)


def _report(server: Any, settings: Settings, writing: int) -> None:
    """Say how it goes, and end the process, without what the master would do at its end."""
    try:
        try:
            outcome = _start_as_a_worker(server, settings)
        except SettingsError as refusal:
            outcome = Outcome(refusal.problems)
        except (Exception, SystemExit) as error:
            log.exception("start_failed")
            outcome = Outcome([f"A worker can't start with them: {log_lines.describe(error)}."])
        os.write(writing, orjson.dumps(outcome))
    finally:
        os._exit(0)


def _start_as_a_worker(server: Any, settings: Settings) -> Outcome:
    """Do what is done until a worker's first request, and ask whether it would be ready.

    Raises SettingsError, or whatever stands in the way.
    """
    connections = startup.ask_for_connections(settings)
    startup.adopt(settings, connections=connections)
    application = copy.copy(server.app)
    forget_application(application)
    application.do_load_config()
    application.wsgi()
    psycopg2_gevent.install()
    db.open_pool(settings, size=1)
    found = health.faults()
    # The database's log needn't tell of a client that vanished.
    db.close_pool(startup.CLOSE_POOL_SECONDS)
    return Outcome([], found, connections)


def _read(pipe: int) -> bytes | None:
    """Return what the other process wrote until its end, or None when that takes too long."""
    end, said = monotonic() + TRIAL_SECONDS, b""
    while (left := end - monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            piece = os.read(pipe, 65536)
            if not piece:
                return said
            said += piece
    return None
