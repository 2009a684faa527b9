"""The tasks that jobs are calls of, and how often a failed one is tried again."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from procrastinate import App, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy

from app.credits import holds, keeping
from app.credits.errors import LedgerFrozen
from app.mail import delivery
from app.orders import cancellation
from app.platform import clock
from app.platform.errors import Unavailable
from app.platform.logging import get_logger
from app.platform.settings import Settings
from app.support import erasure, export, retention
from app.support.values import FAILED_JOBS_KEPT
from app.webhooks import signatures
from app.worker.backlog import DEAD_SECONDS
from app.worker.relay import QUEUE, TASKS

# Seconds before the next try: soon at first, for a server that is only restarting, then patiently.
# Together 33 hours, a weekend night and a day of somebody's outage.
WAITS = (5, 15, 60, 300, 900, 3_600, 7_200, 14_400, 28_800, 64_800)
# After a try that met our own database while it was away, of which there may be any number.
AWAY_SECONDS = 15
# A worker says this often that it lives.
HEARTBEAT_SECONDS = 10.0
# These come by themselves, and never two of one wait.
RESCUE, ERASE, RETAIN, FORGET = "jobs.rescue", "support.erase", "support.retain", "jobs.forget"
EXPIRE_HOLDS, EXPIRE_ORDERS = "credits.expire_holds", "orders.expire"
CHECK, FOLD = "credits.check", "credits.fold"
BY_THEMSELVES = frozenset({RESCUE, ERASE, RETAIN, FORGET, EXPIRE_HOLDS, EXPIRE_ORDERS, CHECK, FOLD})
# Those of them that come every minute or more often, from the time that nothing happens as well.
OFTEN = frozenset({RESCUE, EXPIRE_HOLDS, EXPIRE_ORDERS, CHECK, FOLD})
# All there are.
NAMES = frozenset(TASKS.values()) | BY_THEMSELVES
log = get_logger(__name__)
_checking = keeping.Checking()


class Patience(BaseRetryStrategy):
    """Tries again after each of WAITS; after the last one a job has failed."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to try again, or None."""
        if is_last(job, exception):
            return None
        if isinstance(exception, Unavailable):
            return RetryDecision(retry_in={"seconds": AWAY_SECONDS})
        return RetryDecision(retry_in={"seconds": WAITS[job.attempts]})


def is_last(job: Job, fault: BaseException) -> bool:
    """Tell whether a job that has failed by this fault isn't tried again.

    Without our database nobody can even note that it was given up, so then there is no last try.
    """
    return job.attempts >= len(WAITS) and not isinstance(fault, Unavailable)


def make_app(settings: Settings) -> App:
    """Return procrastinate's application with all tasks, not connected yet."""
    # Who runs it brings the connections.
    app = App(connector=PsycopgConnector())

    @app.task(name="mail.deliver", queue=QUEUE, retry=Patience(), pass_context=True)
    def deliver_mail(context: JobContext, *, subject_id: str) -> None:
        mail_id = UUID(subject_id)
        _or_in_the_end(
            context,
            lambda: delivery.deliver(mail_id, settings=settings),
            lambda: delivery.give_up(mail_id),
        )

    @app.task(name="support.export", queue=QUEUE, retry=Patience(), pass_context=True)
    def make_export(context: JobContext, *, subject_id: str) -> None:
        export_id = UUID(subject_id)
        _or_in_the_end(context, lambda: export.make(export_id), lambda: export.give_up(export_id))

    # These aren't tried again: the next one finds what is left.
    @app.periodic(cron="* * * * *")
    @app.task(name=EXPIRE_HOLDS, queue=QUEUE, queueing_lock=EXPIRE_HOLDS, lock=EXPIRE_HOLDS)
    def expire_holds(timestamp: int) -> None:
        # Rests while nothing may be posted: past its time a hold isn't captured anyway.
        with suppress(LedgerFrozen):
            holds.expire_due()

    @app.periodic(cron="* * * * *")
    @app.task(name=EXPIRE_ORDERS, queue=QUEUE, queueing_lock=EXPIRE_ORDERS, lock=EXPIRE_ORDERS)
    def expire_orders(timestamp: int) -> None:
        cancellation.expire_due()

    @app.periodic(cron="7 * * * *")
    @app.task(name=ERASE, queue=QUEUE, queueing_lock=ERASE, lock=ERASE)
    def erase(timestamp: int) -> None:
        erasure.erase_due()

    @app.periodic(cron="37 * * * *")
    @app.task(name=RETAIN, queue=QUEUE, queueing_lock=RETAIN, lock=RETAIN)
    def retain(timestamp: int) -> None:
        retention.sweep()
        signatures.reencrypt()

    @app.periodic(cron="47 * * * *")
    @app.task(name=FORGET, queue=QUEUE, queueing_lock=FORGET, pass_context=True)
    async def forget(context: JobContext, timestamp: int) -> None:
        # By the database's clock, which the library asks. Jobs that are done leave nothing behind.
        await context.app.job_manager.delete_old_jobs(
            FAILED_JOBS_KEPT // timedelta(hours=1),
            include_failed=True,
            include_cancelled=True,
            include_aborted=True,
        )

    # Every minute it asks whether a check is due. The lock lets one run over all workers, and the
    # next one finds that nothing is due.
    @app.periodic(cron="* * * * *")
    @app.task(name=CHECK, queue=QUEUE, queueing_lock=CHECK, lock=CHECK)
    def check(timestamp: int) -> None:
        _checking.check_if_due()

    @app.periodic(cron="* * * * *")
    @app.task(name=FOLD, queue=QUEUE, queueing_lock=FOLD, lock=FOLD)
    def fold(timestamp: int) -> None:
        keeping.fold_all()

    # A worker that dies leaves its jobs behind as if they were being done. Before everything else
    # that waits, however much that is.
    @app.periodic(cron="* * * * * */20")
    @app.task(name=RESCUE, queue=QUEUE, queueing_lock=RESCUE, priority=1, pass_context=True)
    async def rescue(context: JobContext, timestamp: int) -> None:
        manager = context.app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_SECONDS):
            if job.id is None:
                continue
            try:
                await manager.retry_job_by_id_async(job_id=job.id, retry_at=clock.now())
            except ConnectorException:
                continue  # Another worker has rescued it.
            log.warning("job_rescued", job_id=job.id, task=job.task_name)

    return app


def _or_in_the_end(
    context: JobContext, work: Callable[[], None], give_up: Callable[[], None]
) -> None:
    """Do the work; when its last try fails, give up properly.

    Raises whatever the work raises, or Unavailable when giving up couldn't be noted.
    """
    try:
        work()
    except Exception as fault:
        if is_last(context.job, fault):
            give_up()
        raise
