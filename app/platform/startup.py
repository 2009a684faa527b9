"""What happens around the fork: checks before the master binds, then what each worker opens.

Sockets, threads, timers and greenlets of the master don't survive the fork, or worse, are shared by
it: two workers on one connection get each other's answers. So everything of the kind starts here.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from psycopg2.extensions import connection as DatabaseConnection

from app.platform import db, deadlines, logging, metrics, overload, psycopg2_gevent, sentry
from app.platform.settings import EXIT_CODE, Settings, SettingsError, load_settings

CLOSE_POOL_SECONDS = 3.0
FLUSH_SECONDS = 2.0


@cache
def settings_or_exit() -> Settings:
    """Return the settings of this process, read once: SIGHUP replaces workers, not settings.

    Ends the process with status 78 when they can't be used.
    """
    with exit_when_refused():
        return load_settings()


@contextmanager
def exit_when_refused() -> Iterator[None]:
    """End the process with status 78, and say why, when settings are refused inside."""
    try:
        yield
    except SettingsError as refusal:
        logging.complain("settings_refused", refusal.problems, as_json=refusal.production)
        sys.exit(EXIT_CODE)


@cache
def connections_per_worker(settings: Settings) -> int | None:
    """Return the size of each worker's pool, or None while the database can't be asked.

    Raises SettingsError in staging and production when all workers together want more connections
    than the server has.
    """
    limit = db.server_limit(settings)
    if limit is None:
        return None
    size = settings.database_max_connections or db.pool_size(settings, limit)
    wanted = size * settings.server_workers
    if settings.is_production and wanted > limit:
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
    overload.configure(settings)
    deadlines.start_sweep()
    psycopg2_gevent.install()
    db.open_pool(settings, size=connections_per_worker(settings))
    sentry.start(settings)


def stop_worker() -> None:
    """Close what this worker holds, each within its own limit."""
    try:
        db.close_pool(CLOSE_POOL_SECONDS)
    finally:
        sentry.stop(FLUSH_SECONDS)
