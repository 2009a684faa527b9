"""What happens around the fork: checks before the master binds, then what each worker opens.

Sockets, threads, timers and greenlets of the master don't survive the fork, or worse, are shared by
it: two workers on one connection get each other's answers. So everything of the kind starts here.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import connection as DatabaseConnection

from app.platform import (
    db,
    deadlines,
    logging,
    metrics,
    psycopg2_gevent,
    sentry,
    server_state,
    tracing,
    unread,
    vitals,
)
from app.platform.settings import EXIT_CODE, Settings, SettingsError, load_settings

CLOSE_POOL_SECONDS = 3.0
FLUSH_SECONDS = 2.0
_settings: Settings | None = None
# The size of each worker's pool; asked for once, so that all workers have the same.
_connections: dict[Settings, int | None] = {}


def settings_or_exit() -> Settings:
    """Return the settings of this process: read once, or what was given to `adopt` since.

    Ends the process with status 78 when they can't be used.
    """
    global _settings
    with exit_when_refused():
        _settings = _settings or load_settings()
    return _settings


def adopt(settings: Settings, *, connections: int | None) -> None:
    """Let these settings count for all that is made from now on, in this process and its forks.

    `connections` is what `connections_per_worker` said of them.
    """
    global _settings
    _settings = settings
    _connections.clear()
    _connections[settings] = connections


@contextmanager
def exit_when_refused() -> Iterator[None]:
    """End the process with status 78, and say why, when settings are refused inside."""
    try:
        yield
    except SettingsError as refusal:
        logging.complain("settings_refused", refusal.problems, as_json=refusal.production)
        sys.exit(EXIT_CODE)


def connections_per_worker(settings: Settings) -> int | None:
    """Return the size of each worker's pool, or None while the database can't be asked.

    Raises SettingsError when the limits of statements don't count there; in staging and production
    also when all workers together want more connections than the server has.
    """
    if settings not in _connections:
        _connections[settings] = ask_for_connections(settings)
    return _connections[settings]


def ask_for_connections(settings: Settings) -> int | None:
    """Do the same by asking the database anew, whatever was known before.

    Raises SettingsError.
    """
    limit = db.server_limit(settings) if server_state.check(settings) else None
    if limit is None:
        return None
    size = settings.database_max_connections or db.pool_size(settings, limit)
    wanted = size * settings.server_workers
    # A pooler has any number of connections for us, and shares a few of the server's among them.
    if settings.is_production and wanted > limit and not settings.database_pooler:
        raise SettingsError(
            [
                f"APP_SERVER_WORKERS times APP_DATABASE_MAX_CONNECTIONS is {wanted}, "
                f"but the database allows {limit} connections."
            ],
            production=True,
        )
    return size


def before_fork(worker: Any, running: list[Any]) -> None:
    """Give the worker the lowest free slot, and make memory fit to be shared.

    Raises RuntimeError when a database connection is open.
    """
    worker.slot = metrics.free_slot({other.slot for other in running})
    if gc.get_freeze_count():
        return
    gc.collect()
    if any(isinstance(each, DatabaseConnection) and not each.closed for each in gc.get_objects()):
        raise RuntimeError("a database connection is open before the fork")
    # Frozen objects are never visited by the collector, so their pages stay shared.
    gc.freeze()


def start_worker(worker: Any, settings: Settings) -> None:
    """Open what this worker needs.

    A database that is down hinders nothing: `/ready` tells, and connections are made once it is up.
    """
    metrics.use_slot(worker.slot)
    # Collecting costs more than it finds: a request leaves few cycles.
    gc.set_threshold(20_000, 20, 50)
    logging.report_uncaught()
    unread.configure(settings)
    deadlines.start_sweep()
    psycopg2_gevent.install()
    db.open_pool(settings, size=connections_per_worker(settings))
    sentry.start(settings)
    vitals.start()
    tracing.start(settings)


def stop_worker() -> None:
    """Close what this worker holds, each within its own limit."""
    try:
        db.close_pool(CLOSE_POOL_SECONDS)
    finally:
        tracing.stop(FLUSH_SECONDS)
        sentry.stop(FLUSH_SECONDS)
