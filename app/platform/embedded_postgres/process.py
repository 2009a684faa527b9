"""Starts, watches and ends the process of the embedded PostgreSQL."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg2

from app.platform.embedded_postgres.cluster import (
    ENVIRONMENT,
    disown_reused_pid,
    last_lines,
    postmaster,
)
from app.platform.embedded_postgres.place import EmbeddedPostgresError, Place
from app.platform.processes import end_with_parent, running_program

SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # Reserved huge pages that a container may not use end the server by SIGBUS.
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
# For data that is thrown away: nothing waits for the disk, and a crash of the machine loses all.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# What PostgreSQL says while processes of a killed server are still there, and while it recovers.
LEFT_OVER = "pre-existing shared memory block"
NOT_YET = ("starting up", "not yet accepting connections", "in recovery")
# Such processes end when they next look for their server; a long query may take that long.
LEFT_OVER_SECONDS = 20.0
# A server that neither answers nor says why is given up on.
PATIENCE_SECONDS = 60.0
# Recovery has no limit, but the person who waits is told.
REPORT_SECONDS = 5.0
STOP_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.02


def listens(place: Place) -> bool:
    """Tell whether a server accepts on the socket; process ids and lock files prove nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(place.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def launch(
    place: Place,
    *,
    programs: Path,
    durable: bool,
    settings: Mapping[str, str],
    say: Callable[[str], None],
) -> subprocess.Popen[bytes]:
    """Start a server and return its process once it listens; it may still be recovering.

    Raises EmbeddedPostgresError or OSError.
    """
    disown_reused_pid(place)
    # Without this the name of a killed server's log would hide why it was killed.
    if place.log.exists():
        place.log.replace(place.log.with_suffix(".log.1"))
    given_up_at = time.monotonic() + LEFT_OVER_SECONDS
    told = False
    while True:
        process = _spawn(place, programs=programs, durable=durable, settings=settings)
        try:
            while process.poll() is None and not listens(place):
                time.sleep(LOOK_AGAIN_SECONDS)
        except BaseException:
            end(place, process=process, immediate=True)
            raise
        if process.returncode is None:
            return process
        log = place.log.read_text(errors="replace")
        if LEFT_OVER not in log or time.monotonic() > given_up_at:
            raise EmbeddedPostgresError(
                f"PostgreSQL didn't start. The end of its log, {place.log}:\n{last_lines(log)}"
            )
        if not told:
            say("Waiting for the last processes of a killed PostgreSQL")
            told = True
        time.sleep(10 * LOOK_AGAIN_SECONDS)


def first_connection(
    place: Place,
    dsn: str,
    *,
    process: subprocess.Popen[bytes] | None,
    say: Callable[[str], None],
) -> psycopg2.extensions.connection:
    """Return a connection as soon as the server accepts one, however long its recovery takes.

    Raises EmbeddedPostgresError.
    """
    begun = time.monotonic()
    quiet_since = told_at = begun
    while True:
        try:
            return psycopg2.connect(dsn, connect_timeout=5)
        except psycopg2.OperationalError as error:
            reason = str(error).strip()
        now = time.monotonic()
        if any(words in reason for words in NOT_YET):
            quiet_since = now
            if now - told_at > REPORT_SECONDS:
                say(f"PostgreSQL recovers from a crash ({now - begun:.0f} s so far)")
                told_at = now
        ended = process is not None and process.poll() is not None
        refused = "authentication failed" in reason
        if ended or refused or now - quiet_since > PATIENCE_SECONDS:
            log = place.log.read_text(errors="replace")
            raise EmbeddedPostgresError(
                f"PostgreSQL runs but can't be used: {reason}\n"
                f"The end of its log, {place.log}:\n{last_lines(log)}"
            )
        time.sleep(LOOK_AGAIN_SECONDS)


def end(place: Place, *, process: subprocess.Popen[bytes] | None, immediate: bool) -> None:
    """End the server and wait until it is gone, whoever started it.

    Raises EmbeddedPostgresError.
    """
    number = signal.SIGQUIT if immediate else signal.SIGINT
    # After a crash the server that runs may be one that somebody else started.
    if process is not None and process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise _still_running(place, process.pid) from None
        return
    pid = postmaster(place)
    # Only a server that answers is signalled: otherwise the number may be another program's.
    if pid is None or not listens(place):
        return
    os.kill(pid, number)
    given_up_at = time.monotonic() + STOP_SECONDS
    while running_program(pid) is not None:
        if time.monotonic() > given_up_at:
            raise _still_running(place, pid)
        time.sleep(LOOK_AGAIN_SECONDS)


def _still_running(place: Place, pid: int) -> EmbeddedPostgresError:
    """Return the error for a server that doesn't end."""
    return EmbeddedPostgresError(
        f"PostgreSQL (process {pid}) hasn't ended within {STOP_SECONDS:.0f} s; see {place.log}."
    )


def _spawn(
    place: Place, *, programs: Path, durable: bool, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the server's process in a session of its own, with its output in the log."""
    sockets = str(place.sockets).replace('"', '""')
    options = {
        **SERVER_SETTINGS,
        **({} if durable else NOT_DURABLE),
        **settings,
        "unix_socket_directories": f'"{sockets}"',
    }
    command = [str(programs / "postgres"), "-D", str(place.cluster)]
    command += [f"-c{name}={value}" for name, value in options.items()]
    log = place.account.open_file(place.log, empty=True)
    try:
        return subprocess.Popen(
            command,
            cwd=place.home,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            # A pipe would stay open in the server for as long as it lives.
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal is for the launcher, which stops the server last.
            start_new_session=True,
            preexec_fn=None if durable else end_with_parent(signal.SIGQUIT),
            **place.account.identity(),
        )
    finally:
        os.close(log)
