"""Shows what the workers have to do and who does it, as numbers for the metrics.

The web process reads them: they are there when no worker is, and cost it none of the library.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text

from app.platform import clock
from app.platform.db import reading
from app.platform.gauges import Gauge
from app.platform.outbox import MOST_COUNTED

# A worker counts as dead after this time of silence.
DEAD_SECONDS: Final = 30.0

# The library notes the time of a job only where it is to be done later; else it is an event's.
_READ = text(
    """
    WITH due AS (
        SELECT id, scheduled_at FROM procrastinate_jobs
        WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= :now)
        LIMIT :most
    ), later AS (
        SELECT FROM procrastinate_jobs
        WHERE status = 'todo' AND scheduled_at > :now
        LIMIT :most
    ), failed AS (
        SELECT FROM procrastinate_jobs WHERE status = 'failed' LIMIT :most
    )
    SELECT
        (SELECT count(*) FROM due) AS due,
        (SELECT count(*) FROM later) AS later,
        (SELECT count(*) FROM failed) AS failed,
        (SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > :alive) AS workers,
        (SELECT min(scheduled_at) FROM due) AS scheduled,
        (SELECT min(at) FROM procrastinate_events
         WHERE job_id = (SELECT min(id) FROM due WHERE scheduled_at IS NULL)) AS deferred
    """
)


def gauges() -> Sequence[Gauge]:
    """Return how many jobs wait, how long the oldest does, how many failed, and how many work.

    Raises Unavailable.
    """
    now = clock.now()
    alive = now - timedelta(seconds=DEAD_SECONDS)
    with reading() as connection:
        row = connection.execute(_READ, {"now": now, "alive": alive, "most": MOST_COUNTED}).one()
    since: list[datetime] = [at for at in (row.scheduled, row.deferred) if at is not None]
    age = max([0.0, *((now - at).total_seconds() for at in since)])
    return [
        Gauge("jobs_waiting", "Jobs that are due and that nobody has begun.", row.due),
        Gauge("jobs_oldest_age_seconds", "How long the oldest of them is due.", age),
        Gauge("jobs_postponed", "Jobs that are tried again later.", row.later),
        Gauge("jobs_failed", "Jobs that were given up, as long as they are kept.", row.failed),
        Gauge("job_workers", "Worker processes that have said lately that they live.", row.workers),
    ]
