"""What happens around each job: a line in the log, and a note of its end that isn't lost.

The library notes the end of a job once. When just that statement meets a fault, the job stays as
if it were being done, by a worker that lives: nobody would ever do it again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any

import psycopg
from procrastinate import App, JobContext
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from app.mail.errors import MailNotSent
from app.platform import clock, metrics, sentry, tracing
from app.platform.errors import AppError
from app.platform.logging import get_logger
from app.worker import tasks

# Between two tries to reach a database that is away.
REST_SECONDS = 1.0
# How long a job that only a newer worker knows is left for one.
UNKNOWN_SECONDS = 60.0
# From looking at one row to checking the books of years, in seconds.
BUCKETS = (0.01, 0.05, 0.25, 1, 5, 30, 120, 600)
log = get_logger(__name__)
_ended = metrics.counter(
    "jobs_total",
    "Tries of jobs: done, failed, or given up after the last one.",
    task=tasks.NAMES,
    outcome=("done", "failed", "given_up"),
)
_durations = metrics.histogram(
    "job_duration_seconds", "How long a try of a job took.", buckets=BUCKETS, task=tasks.NAMES
)


class Jobs(JobManager):
    """The jobs in the database, and those that this process does at the moment."""

    def __init__(self, app: App) -> None:
        """Take the place of the application's own manager."""
        super().__init__(app.connector)
        self._app = app
        self._running: dict[int, Job] = {}
        app.job_manager = self

    async def watch(
        self, do: Callable[[], Awaitable[Any]], context: JobContext, _worker: Worker
    ) -> Any:
        """Do a job, and write how that went. Goes around each job as a middleware."""
        job = context.job
        self._running[_id(job)] = job
        try:
            with _trace(job):
                return await _told(job, do)
        finally:
            del self._running[_id(job)]

    async def hand_back(self) -> None:
        """Let other workers do at once what this process hasn't finished.

        Raises ConnectorException.
        """
        for job_id, job in list(self._running.items()):
            await self.retry_job_by_id_async(job_id=job_id, retry_at=clock.now())
            log.warning("job_handed_back", task=job.task_name, job_id=job_id)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Note that a job is over, however long the database is away.

        One that only a newer version knows isn't over: during an update its worker comes later.
        """
        if job.task_name not in self._app.tasks:
            await self.retry_job(job, clock.now() + timedelta(seconds=UNKNOWN_SECONDS))
            return
        await _noted(
            lambda: self.finish_job_by_id_async(
                job_id=_id(job), status=status, delete_job=delete_job
            )
        )

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Note when a job is to be tried again, however long the database is away."""
        await _noted(
            lambda: self.retry_job_by_id_async(
                job_id=_id(job),
                retry_at=retry_at or clock.now(),
                priority=priority,
                queue=queue,
                lock=lock,
            )
        )


def _trace(job: Job) -> AbstractContextManager[None]:
    """Return what lets a job belong to the trace that it came from.

    Of those that come by themselves, the frequent ones belong to none.
    """
    # The task takes the rest.
    sent = job.task_kwargs.pop("traceparent", None)
    if job.task_name in tasks.OFTEN:
        return nullcontext()
    facts: dict[str, str | int | None] = {
        "bursar.task": job.task_name,
        "bursar.job_id": job.id,
        "bursar.attempts": job.attempts + 1,
    }
    return tracing.job(job.task_name, sent=None if sent is None else str(sent), facts=facts)


async def _told(job: Job, do: Callable[[], Awaitable[Any]]) -> Any:
    """Do a job, and write how that went."""
    begun = time.monotonic()
    told: dict[str, Any] = {
        "task": job.task_name,
        "job_id": job.id,
        "attempts": job.attempts + 1,
    }
    try:
        result = await do()
    except Exception as fault:
        is_last = tasks.is_last(job, fault)
        told["seconds"] = _count(job, begun, "given_up" if is_last else "failed")
        if isinstance(fault, MailNotSent):
            # A step and a status, in our own words.
            told["reason"] = str(fault)
        elif not isinstance(fault, AppError):
            sentry.capture(fault, request_id=None)
        write = log.error if is_last else log.warning
        write("job_failed", **told, exc_info=fault)
        raise
    told["seconds"] = _count(job, begun, "done")
    write = log.debug if job.task_name in tasks.OFTEN else log.info
    write("job_done", **told)
    return result


async def _noted(note: Callable[[], Awaitable[None]]) -> None:
    """Note the end of a job, and repeat that while the database is away.

    Raises ConnectorException.
    """
    while True:
        try:
            await note()
            return
        except ConnectorException as fault:
            # The library's functions raise when the job isn't being done any more: this process
            # was silent for so long that another worker has taken it over.
            if isinstance(fault.__cause__, psycopg.errors.RaiseException):
                log.warning("job_was_taken_over")
                return
            if not isinstance(fault.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
                raise
        await asyncio.sleep(REST_SECONDS)


def _count(job: Job, begun: float, outcome: str) -> float:
    """Count a try that began at that monotonic time, and return how many seconds it took."""
    seconds = time.monotonic() - begun
    # The names are a closed set: what only a newer worker knows doesn't come so far.
    _ended.of(job.task_name, outcome).inc()
    _durations.of(job.task_name).observe(seconds)
    return round(seconds, 3)


def _id(job: Job) -> int:
    if job.id is None:
        raise ValueError("the job is in no database")
    return job.id
