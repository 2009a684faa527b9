"""Runs the whole service on one machine, as `make run` does: database, migrations, web, worker.

The database that it starts ends with it. One that a killed run left over is taken over and ends
with it too: the lock on the data folder says that nobody else can be using it as a service.
"""

import http.client
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from app.launcher.children import Child
from app.launcher.preflight import (
    StartError,
    check_database,
    check_port,
    one_line,
    recorded_revision,
)
from app.launcher.run_lock import AlreadyRunning, RunLock
from app.launcher.stop_signals import Interrupted, StopSignals
from app.platform import migrations
from app.platform.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from app.platform.processes import follow_parent
from app.platform.settings import (
    EXIT_CODE,
    Settings,
    SettingsError,
    load_settings,
)

# A cold disk and one slow core need some seconds until every worker is up.
READY_SECONDS = 60.0
READY_POLL_SECONDS = 0.05
WATCH_SECONDS = 1.0


def main() -> int:
    """Run the service until it is told to stop or its starter ends, and return the exit code."""
    follow_parent(signal.SIGTERM)
    try:
        return _run(StopSignals())
    except SettingsError as error:
        _refuse(error)
        return EXIT_CODE
    except (StartError, AlreadyRunning, EmbeddedPostgresError) as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"{error.filename or 'The system refused'}: {error.strerror}.")
    except Interrupted as interruption:
        say("Stopped before the service was up")
        return 128 + interruption.number
    return 1


def say(sentence: str) -> None:
    """Tell the person at the terminal what happens."""
    print(sentence, flush=True)


def _complain(sentence: str) -> None:
    """Tell the person what went wrong, after everything that was said before."""
    sys.stdout.flush()
    print(sentence, file=sys.stderr, flush=True)


def _refuse(error: SettingsError) -> None:
    """Tell what is wrong with the settings, in production to programs."""
    if not error.production:
        _complain(str(error))
        return
    # Only a start that fails pays for this import.
    from app.platform import logging

    logging.serve()
    logging.complain("settings_refused", error.problems, as_json=True)


def _run(signals: StopSignals) -> int:
    """Start everything in order, serve, and stop in the opposite order."""
    settings = load_settings()
    say(f"Bursar {settings.version}, {settings.env}, with data in {settings.data_dir}")
    lock = RunLock.take(settings.data_dir, address=f"http://{settings.server_address}", say=say)
    try:
        check_port(settings)
        with _database(settings) as database:
            _migrate(settings)
            code = _serve(settings, database=database, lock=lock, signals=signals)
    finally:
        lock.release()
    say("Stopped")
    return code


@contextmanager
def _database(settings: Settings) -> Iterator[EmbeddedPostgres | None]:
    """Start the embedded database, or nothing when the settings name another one."""
    if not settings.database_embedded:
        yield None
        return
    say("Starting PostgreSQL")
    database = EmbeddedPostgres.start(settings.data_dir, say=say)
    try:
        yield database
    finally:
        database.stop()


def _migrate(settings: Settings) -> None:
    """Check that the database can be used, and bring its tables up to date.

    Raises StartError.
    """
    separate = settings.database_migration_url != settings.database_url
    if separate:
        check_database(settings.database_url, variable="APP_DATABASE_URL")
    recorded, serves_from = recorded_revision(
        settings.database_migration_url,
        variable="APP_DATABASE_MIGRATION_URL" if separate else "APP_DATABASE_URL",
    )
    if recorded == migrations.head_revision():
        return
    if recorded and recorded > migrations.head_revision():
        if migrations.judge(recorded, serves_from) == migrations.OK:
            say(f"A newer version has migrated the database, to {recorded}; this one still runs")
            return
        raise StartError(
            f"The database is at revision {recorded}, which this version doesn't know: a newer "
            f"version has migrated it. Update the code."
        )
    say("Updating the database's tables")
    # Only a start that migrates pays for these imports.
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    try:
        migrations.upgrade(settings)
    except CommandError as error:
        raise StartError(f"The database's tables can't be updated: {error}") from None
    except DBAPIError as error:
        raise StartError(
            f"The database's tables can't be updated: {one_line(error.orig)}"
        ) from None


def _serve(
    settings: Settings, *, database: EmbeddedPostgres | None, lock: RunLock, signals: StopSignals
) -> int:
    """Run web server and worker until the web server ends, and return the exit code.

    It is 0 only when the web server was asked to end.
    """
    say("Starting the web server")
    signals.defer()
    web = Child("gunicorn", lock=lock, at_once=signal.SIGQUIT)
    worker = Child("flask", "worker", lock=lock, at_once=signal.SIGKILL)
    web.start()
    begun = time.monotonic()
    ready = failed = asked = False
    while web.is_running:
        stop = signals.wait(WATCH_SECONDS if ready else READY_POLL_SECONDS)
        if stop:
            _stop(web, worker, lock=lock, at_once=asked)
            asked = True
        elif asked or failed:
            continue
        elif database is not None and not database.is_running():
            _complain(f"PostgreSQL has ended. The end of its log:\n{database.last_log_lines()}")
            failed = True
        elif ready:
            _keep(worker)
        else:
            answer = _ask_ready(settings.server_address)
            ready = answer == "200"
            if ready:
                # Only now: the web server can use both halves of a small machine to start.
                worker.start()
                _welcome(settings, database)
            elif time.monotonic() - begun > READY_SECONDS:
                _complain(f"The service isn't ready after {READY_SECONDS:.0f} s: {answer}")
                failed = True
        if failed:
            web.end(at_once=True)
            worker.end(at_once=True)
    code = _exit_code(web, asked=asked, failed=failed)
    _wait_for(worker, lock=lock, signals=signals, asked=asked)
    return code


def _stop(*children: Child, lock: RunLock, at_once: bool) -> None:
    """Ask all programs to end; who asks twice doesn't want to wait for what they are doing."""
    for child in children:
        child.end(at_once=at_once)
    lock.announce_end()
    say("Stopping at once" if at_once else "Stopping: finishing the requests and jobs that run")


def _keep(worker: Child) -> None:
    """Start the worker again if it has ended: without it mails wait, and all else goes on."""
    if worker.may_start_again():
        _complain(f"The worker has ended by itself, {worker.how}. Starting it again")
        worker.start()


def _wait_for(worker: Child, *, lock: RunLock, signals: StopSignals, asked: bool) -> None:
    """Let the worker finish its jobs once the web server has ended."""
    if not asked:
        worker.end()
    while worker.is_running:
        if signals.wait(WATCH_SECONDS):
            _stop(worker, lock=lock, at_once=True)


def _exit_code(web: Child, *, asked: bool, failed: bool) -> int:
    """Say how the web server ended, and return the exit code that follows from it."""
    # Workers of a killed master would use the port for another second.
    web.kill_what_is_left()
    if asked and web.code in (0, -signal.SIGTERM):
        return 0
    if not asked and not failed:
        _complain(f"The web server has ended by itself, {web.how}.")
    return web.code if web.code > 0 else 1


def _ask_ready(address: str) -> str:
    """Return the status of /ready, with the body unless it is 200; or why nothing answers."""
    try:
        with closing(http.client.HTTPConnection(address, timeout=5)) as asking:
            asking.request("GET", "/ready")
            response = asking.getresponse()
            body = response.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"nothing answers at {address} ({error})"
    return "200" if response.status == 200 else f"/ready answers {response.status} {body}"


def _welcome(settings: Settings, database: EmbeddedPostgres | None) -> None:
    """Say where everything is, and what to try next."""
    where = "set by APP_DATABASE_URL" if database is None else str(database.place.home)
    flask = Path(sys.prefix, "bin", "flask")
    if flask.is_relative_to(Path.cwd()):
        flask = flask.relative_to(Path.cwd())
    say(
        f"""
Bursar is ready: http://{settings.server_address}

  Reference  http://{settings.server_address}/docs
  Database   {where}
  Data       {settings.data_dir}
  Next       make yourself an administrator, in another terminal:
             {flask} users create-admin --email you@example.com --name You
  Stop       Ctrl-C
"""
    )


if __name__ == "__main__":
    sys.exit(main())
