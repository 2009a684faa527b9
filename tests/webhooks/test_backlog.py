"""The metrics tell what webhooks are still to be told, how late that is, and what was given up."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Row

from app.platform.gauges import Gauges
from app.webhooks import backlog
from tests.limiting import later
from tests.scraped import samples

MakeWebhook = Callable[..., dict[str, Any]]
Sql = Callable[..., list[Row[Any]]]


def shown() -> list[float]:
    """Return the numbers of this moment: waiting, seconds, postponed, dead."""
    told = samples(Gauges(backlog.gauges).exposition().decode())
    names = ("waiting", "oldest_age_seconds", "postponed", "dead")
    return [told[f"webhook_deliveries_{name}"] for name in names]


def test_what_waits_is_put_off_and_given_up_is_told(
    make_webhook: MakeWebhook, happen: Callable[[], None], sql: Sql
) -> None:
    assert shown() == [0, 0, 0, 0]
    first, second = make_webhook()["id"], make_webhook()["id"]
    happen()
    happen()
    with later(100):
        waiting, seconds, postponed, dead = shown()
    assert (waiting, postponed, dead) == (4, 0, 0)
    assert 100 <= seconds < 110
    sql(
        "UPDATE webhook_deliveries SET next_try_at = now() + interval '5 min'"
        " WHERE webhook_id = :id",
        id=first,
    )
    sql(
        "UPDATE webhook_deliveries SET status = 'dead', next_try_at = NULL, ended_at = now()"
        " WHERE id = (SELECT id FROM webhook_deliveries WHERE webhook_id = :id LIMIT 1)",
        id=second,
    )
    waiting, _, postponed, dead = shown()
    assert (waiting, postponed, dead) == (1, 2, 1)
    with later(310):
        waiting, seconds, postponed, _ = shown()
    assert (waiting, postponed) == (3, 0)
    # Of one that is switched off nobody is waited for, and what is dead stays to be looked at.
    sql("UPDATE webhooks SET active = false")
    assert shown() == [0, 0, 0, 1]


def test_more_than_can_be_counted_in_time_is_not_counted(
    make_webhook: MakeWebhook,
    happen: Callable[[], None],
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = make_webhook()["id"]
    for _ in range(3):
        happen()
    monkeypatch.setattr(backlog, "MOST_COUNTED", 2)
    assert shown()[0] == 2
    # What one webhook puts off hides nothing of another one's.
    sql(
        "UPDATE webhook_deliveries SET next_try_at = now() + interval '1 hour'"
        " WHERE webhook_id = :id",
        id=first,
    )
    make_webhook()
    happen()
    with later(60):
        waiting, seconds, postponed, _ = shown()
    assert (waiting, postponed) == (2, 2)
    assert 60 <= seconds < 70
