"""Shows what webhooks are still to be told, and what was given up, as numbers for the metrics."""

from collections.abc import Sequence

from sqlalchemy import text

from app.platform import clock
from app.platform.db import reading
from app.platform.gauges import Gauge
from app.platform.outbox import MOST_COUNTED

# What is due to a webhook that is switched off waits for nobody.
_READ = text(
    """
    WITH pending AS (
        SELECT next_try_at FROM webhook_deliveries
        JOIN webhooks ON webhooks.id = webhook_id AND webhooks.active
        WHERE status = 'pending'
        LIMIT :most
    )
    SELECT
        (SELECT count(*) FROM pending WHERE next_try_at <= :now) AS due,
        (SELECT count(*) FROM pending WHERE next_try_at > :now) AS later,
        (SELECT min(next_try_at) FROM pending WHERE next_try_at <= :now) AS since,
        (SELECT count(*) FROM webhooks, LATERAL (
            SELECT FROM webhook_deliveries
            WHERE webhook_id = webhooks.id AND status = 'dead'
            LIMIT :most
        ) AS given_up) AS dead
    """
)


def gauges() -> Sequence[Gauge]:
    """Return how many deliveries wait, how late the oldest is, how many are put off or dead.

    Raises Unavailable.
    """
    now = clock.now()
    with reading() as connection:
        row = connection.execute(_READ, {"now": now, "most": MOST_COUNTED}).one()
    late = (now - row.since).total_seconds() if row.since is not None else 0.0
    return [
        Gauge("webhook_deliveries_waiting", "Deliveries that are due.", row.due),
        Gauge("webhook_deliveries_oldest_age_seconds", "How long the oldest of them is due.", late),
        Gauge("webhook_deliveries_postponed", "Deliveries that are tried again later.", row.later),
        Gauge("webhook_deliveries_dead", "Deliveries that were given up.", row.dead),
    ]
