"""Turns events of the outbox into jobs, in one transaction: none is lost and none doubled."""

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import text

from app.mail.service import TOPIC as MAIL_REQUESTED
from app.mail.transport import is_configured
from app.platform import outbox
from app.platform.db import transaction
from app.platform.settings import Settings
from app.support.export import TOPIC as EXPORT_REQUESTED

# Which task an event becomes a job of. A task takes the event's subject.
TASKS: Final[Mapping[str, str]] = {
    MAIL_REQUESTED: "mail.deliver",
    EXPORT_REQUESTED: "support.export",
}
BATCH: Final = 500
QUEUE: Final = "default"

# What procrastinate's own `defer` calls, on our connection and so in our transaction.
_DEFER = text(
    """
    SELECT procrastinate_defer_jobs_v1(array_agg(
        ROW(:queue, task, 0, NULL, NULL, arguments, NULL)::procrastinate_job_to_defer_v1
    ))
    FROM unnest(
        CAST(:tasks AS text[]), CAST(:subjects AS text[]), CAST(:traceparents AS text[])
    ) AS job (task, subject, traceparent),
    -- A job that nobody follows is as it always was.
    LATERAL (SELECT jsonb_strip_nulls(
        jsonb_build_object('subject_id', subject, 'traceparent', traceparent)
    )) AS given (arguments)
    """
)


def topics(settings: Settings) -> list[str]:
    """Return what this worker turns into jobs: mails not while they have nowhere to go.

    As events they wait for a mail server without counting tries.
    """
    mails_wait = not is_configured(settings)
    return [topic for topic in TASKS if not (mails_wait and topic == MAIL_REQUESTED)]


def relay(taken: Iterable[str] = TASKS) -> int:
    """Turn up to BATCH events of these topics into jobs, and return how many there were.

    Raises Unavailable.
    """
    with transaction() as session:
        # What a newer web process leaves is for a newer worker.
        events = outbox.take(session, topics=taken, most=BATCH)
        if events:
            session.execute(
                _DEFER,
                {
                    "queue": QUEUE,
                    "tasks": [TASKS[event.topic] for event in events],
                    "subjects": [str(event.subject_id) for event in events],
                    "traceparents": [event.traceparent for event in events],
                },
            )
    return len(events)
