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
    WITH active AS (
        SELECT id FROM webhooks WHERE active
    ), due AS (
        SELECT FROM active, LATERAL (
            SELECT FROM webhook_deliveries
            WHERE webhook_id = active.id AND status = 'pending' AND next_try_at <= :now
        ) AS found
        LIMIT :most
    ), later AS (
        SELECT FROM active, LATERAL (
            SELECT FROM webhook_deliveries
            WHERE webhook_id = active.id AND status = 'pending' AND next_try_at > :now
        ) AS found
        LIMIT :most
    ), dead AS (
        SELECT FROM webhooks, LATERAL (
            SELECT FROM webhook_deliveries WHERE webhook_id = webhooks.id AND status = 'dead'
        ) AS found
        LIMIT :most
    )
    SELECT
        (SELECT count(*) FROM due) AS due,
        (SELECT count(*) FROM later) AS later,
        (SELECT count(*) FROM dead) AS dead,
        (SELECT min(next_try_at) FROM active, LATERAL (
            SELECT next_try_at FROM webhook_deliveries
            WHERE webhook_id = active.id AND status = 'pending'
            ORDER BY next_try_at LIMIT 1
        ) AS first) AS first
    """
)


def gauges() -> Sequence[Gauge]:
    """Return how many deliveries wait, how late the oldest is, how many are put off or dead.

    Raises Unavailable.
    """
    now = clock.now()
    with reading() as connection:
        row = connection.execute(_READ, {"now": now, "most": MOST_COUNTED}).one()
    late = max((now - row.first).total_seconds(), 0.0) if row.first is not None else 0.0
    return [
        Gauge("webhook_deliveries_waiting", "Deliveries that are due.", row.due),
        Gauge(
            "webhook_deliveries_oldest_age_seconds",
            "How long the oldest of them is due.",
            late,
        ),
        Gauge("webhook_deliveries_postponed", "Deliveries that are tried again later.", row.later),
        Gauge("webhook_deliveries_dead", "Deliveries that were given up.", row.dead),
    ]
