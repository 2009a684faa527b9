"""Runs the worker until it is told to stop, through restarts of the database too."""

import asyncio
import os
import signal
from contextlib import suppress

import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import FETCH_JOB_POLLING_INTERVAL, Worker
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import make_url

from app.platform import db, logging, migrations, sentry, tracing
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from app.worker import numbers, tasks
from app.worker.backlog import DEAD_SECONDS
from app.worker.jobs import REST_SECONDS, Jobs
from app.worker.lanes import Lanes
from app.worker.relay import BATCH, TASKS, relay, topics

# Jobs wait for mail servers and the database most of the time.
CONCURRENCY = 4
# The library's own connections: for fetching and finishing jobs. One more listens.
CONNECTIONS = 4
CONNECT_SECONDS = 5
# How soon after a commit its event is found; and a job, where a pooler keeps us from listening.
POLL_SECONDS = 0.5
HAND_BACK_SECONDS = 3.0
CLOSE_POOL_SECONDS = 3.0
FLUSH_SECONDS = 2.0
# We never ask for a job to be broken off, so there is nothing to look for.
NEVER_SECONDS = 86_400.0
SCHEMA_ADVICE = {
    migrations.BEHIND: "Migrate first: flask db upgrade.",
    migrations.AHEAD: "Start a newer version: a migration has taken away what this one needs.",
}
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = logging.get_logger(__name__)


def run(settings: Settings, *, grace: float) -> None:
    """Do jobs until SIGTERM or SIGINT comes; a second one ends the process at once.

    Running jobs are finished. What takes longer than `grace` seconds is handed to another worker.

    Raises SettingsError.
    """
    logging.serve()
    logging.report_uncaught()
    with numbers.answering(settings):
        # One more for the relay and the lanes, which hold it for a moment at a time.
        db.open_pool(settings, size=CONCURRENCY + 1)
        sentry.start(settings)
        tracing.start(settings)
        try:
            asyncio.run(_serve(settings, grace))
            log.info("worker_stopped")
        finally:
            db.close_pool(CLOSE_POOL_SECONDS)
            tracing.stop(FLUSH_SECONDS)
            sentry.stop(FLUSH_SECONDS)


async def _serve(settings: Settings, grace: float) -> None:
    """Work until a signal comes, and finish what runs then."""
    stop = asyncio.Event()

    def ask_to_stop() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, ask_to_stop)
    # Goes on while the rest ends; leaving the loop cancels it.
    watching = asyncio.create_task(numbers.watch())
    log.info("worker_started", concurrency=CONCURRENCY)
    asked = asyncio.create_task(stop.wait())
    fitting = asyncio.create_task(_wait_for_a_schema(stop))
    await asyncio.wait([fitting, asked], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        # Nothing runs yet, and nobody waits for a look at a server that says nothing.
        if not (await asyncio.wait([fitting], timeout=HAND_BACK_SECONDS))[0]:
            os._exit(0)
        return
    fitting.result()
    work = _Work(settings, stop)
    lanes = Lanes(stop, poll_seconds=POLL_SECONDS)
    # They go on for ever: one that ends before the stop has met a mistake of ours, which is raised
    # below.
    loops = [
        asyncio.create_task(work.go_on()),
        asyncio.create_task(_relay(settings, stop)),
        asyncio.create_task(lanes.go_on()),
    ]
    await asyncio.wait([*loops, asked, watching], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    # Nothing is cancelled: what runs shall end well, and in Python 3.11 a task that is cancelled at
    # the end of a wait goes on as if nothing had been.
    work.end()
    done, running = await asyncio.wait(loops, timeout=grace)
    for task in done:
        task.result()
    if running:
        log.warning("worker_hands_back")
        await work.hand_back()
        # Threads can't be ended, and leaving the loop would wait for them.
        os._exit(0)


async def _wait_for_a_schema(stop: asyncio.Event) -> None:
    """Wait until the database has a schema that this code runs with, or until the stop."""
    away, said = "away", migrations.OK
    while not stop.is_set():
        try:
            found = await asyncio.to_thread(_schema)
        except Unavailable as fault:
            found = away
            if said != away:
                log.error("worker_database_away", exc_info=fault)
        else:
            if said == away:
                log.info("worker_database_back")
            if found == migrations.OK:
                return
            if said != found:
                log.error("worker_waits_for_a_schema", schema=found, advice=SCHEMA_ADVICE[found])
        said = found
        await _pause(stop, REST_SECONDS)


def _schema() -> str:
    with db.reading() as connection:
        return migrations.state(connection)


class _Work:
    """Doing jobs, on one set of connections after the other."""

    def __init__(self, settings: Settings, stop: asyncio.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._jobs: Jobs | None = None
        self._worker: Worker | None = None

    async def go_on(self) -> None:
        """Do jobs until the stop; when the database goes away, wait for it and begin anew."""
        away = False
        while not self._stop.is_set():
            try:
                async with _connections(self._settings) as connections:
                    await connections.wait(CONNECT_SECONDS)
                    if away:
                        log.info("worker_database_back")
                    away = False
                    await self._do_jobs(connections)
            except (ConnectorException, psycopg.Error) as fault:
                if not away:
                    log.error("worker_database_away", exc_info=fault)
                away = True
            await _pause(self._stop, REST_SECONDS)

    async def _do_jobs(self, connections: AsyncConnectionPool) -> None:
        """Do jobs until the stop, or until a part of the library fails, which it says itself.

        Raises ConnectorException.
        """
        app, pooler = tasks.make_app(self._settings), self._settings.database_pooler
        async with app.open_async(connections):
            self._jobs = jobs = Jobs(app)
            self._worker = worker = Worker(
                app,
                concurrency=CONCURRENCY,
                install_signal_handlers=False,
                # What is done needs no row. What has failed keeps its own, for people.
                delete_jobs="successful",
                update_heartbeat_interval=tasks.HEARTBEAT_SECONDS,
                stalled_worker_timeout=DEAD_SECONDS,
                abort_job_polling_interval=NEVER_SECONDS,
                # In transaction mode LISTEN would be heard on whatever connection comes next.
                listen_notify=not pooler,
                fetch_job_polling_interval=POLL_SECONDS if pooler else FETCH_JOB_POLLING_INTERVAL,
                worker_middleware=[jobs.watch],
            )
            # As it starts, it forgets that it was told to stop before.
            if not self._stop.is_set():
                await worker.run()

    def end(self) -> None:
        """Fetch no more jobs, and let those that run end."""
        if self._worker is not None:
            self._worker.stop()

    async def hand_back(self) -> None:
        """Let another worker begin at once with what runs here.

        If that doesn't work, it comes to one all the same, once this one counts as dead.
        """
        with suppress(ConnectorException, psycopg.Error, TimeoutError):
            async with asyncio.timeout(HAND_BACK_SECONDS):
                if self._jobs is not None:
                    await self._jobs.hand_back()


async def _relay(settings: Settings, stop: asyncio.Event) -> None:
    """Turn events into jobs until the stop, twice a second, or at once while there are many."""
    taken = topics(settings)
    left = sorted(TASKS.keys() - taken)
    if left:
        log.warning("events_wait_for_a_mail_server", topics=left, advice="Set APP_MAIL_URL.")
    while not stop.is_set():
        try:
            found = await asyncio.to_thread(relay, taken)
        except Unavailable:
            found = 0
        if found < BATCH:
            await _pause(stop, POLL_SECONDS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _connections(settings: Settings) -> AsyncConnectionPool:
    """Return the library's own connections, by its own driver; none is open yet."""
    url = make_url(settings.database_url).set(drivername="postgresql")
    return AsyncConnectionPool(
        conninfo=url.render_as_string(hide_password=False),
        kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "bursar worker",
            # Without these, a machine that vanished would be noticed after a quarter of an hour.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # The next transaction may be on a connection that doesn't know what was prepared.
            **({"prepare_threshold": None} if settings.database_pooler else {}),
        },
        min_size=1,
        max_size=CONNECTIONS,
        timeout=CONNECT_SECONDS,
        # Its tries come more and more seldom; after this time they begin anew.
        reconnect_timeout=CONNECT_SECONDS,
        # One that the server has closed meanwhile is replaced.
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
