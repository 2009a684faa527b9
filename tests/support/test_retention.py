"""Retention: what is over goes, what isn't stays, and books and audit events always stay."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from app.auth import suspension
from app.credits import verification
from app.mail import delivery
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.settings import Settings
from app.support import export, retention
from app.support.retention import sweep
from tests import limiting
from tests.auth.refreshing import login, renewed, sign_in
from tests.client import Client, new_key
from tests.credits.plain_sql import connected
from tests.credits.sending import send
from tests.people import TestUser
from tests.support.leaving import ME, leave
from tests.watching import wait_until_somebody_waits_for

MakeUser = Callable[..., TestUser]
pytestmark = pytest.mark.usefixtures("empty_database")
AUDIT = "audit_personal"


@pytest.fixture
def began(empty_database: Settings) -> datetime:
    """When the test began, from which it counts its days."""
    return clock.now()


def after(began: datetime, days: float, **more: float) -> time_machine.travel:
    """Move the clock to so many days after the test began."""
    return time_machine.travel(began + timedelta(days=days, **more), tick=False)


def count(table: str, where: str = "true", **parameters: Any) -> int:
    """Return how many rows a table of this process's database has."""
    with reading() as connection:
        found = connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}"), parameters)
        return int(found.scalar_one())


def test_idempotency_keys_go_when_they_count_as_new(
    client: Client, make_user: MakeUser, began: datetime
) -> None:
    user = make_user()
    for _ in range(2):
        renaming = client.patch(ME, token=user.token, json={"name": "Ada"}, key=new_key())
        assert renaming.status_code == 200
    with after(began, 30, seconds=-1):
        assert sweep()["idempotency_keys"] == 0
    with after(began, 30, minutes=1):
        assert sweep()["idempotency_keys"] == 2
    assert count("idempotency_keys") == 0


def test_a_key_that_is_renewed_meanwhile_stays(
    client: Client, make_user: MakeUser, empty_database: Settings, began: datetime
) -> None:
    """Seen failing with the condition on the time in the inner query alone."""
    user = make_user()
    renaming = client.patch(ME, token=user.token, json={"name": "Ada"}, key=new_key())
    assert renaming.status_code == 200
    with ThreadPoolExecutor(1) as thread, after(began, 31):
        with connected(empty_database.database_migration_url) as connection:
            renewal = text("UPDATE idempotency_keys SET created_at = :now")
            connection.execute(renewal, {"now": clock.now()})
            sweeping = thread.submit(sweep)
            wait_until_somebody_waits_for(connection)
            connection.commit()
        assert sweeping.result(10)["idempotency_keys"] == 0
    assert count("idempotency_keys") == 1


def test_login_sessions_go_ninety_days_after_their_end(
    client: Client, make_user: MakeUser, began: datetime
) -> None:
    user = make_user()
    used = sign_in(client, user)
    ended = sign_in(client, user)
    left = {"token": ended["access_token"]}
    assert client.post("/api/v1/auth/logout", **left).status_code == 204
    with after(began, 20):
        used = renewed(client, used)

    def there() -> int:
        sweep()
        return count("login_sessions", "user_id = :id", id=user.id)

    with after(began, 90, seconds=-1):
        assert there() == 3
    with after(began, 90, minutes=1):
        assert there() == 2
    # One that nobody used ended after 30 days, and one that was used then after 50.
    with after(began, 120, seconds=-1):
        assert there() == 2
    with after(began, 120, minutes=1):
        assert there() == 1
    with after(began, 140, seconds=-1):
        assert there() == 1
    with after(began, 140, minutes=1):
        assert there() == 0


def deliver_all(settings: Settings) -> None:
    with reading() as connection:
        waiting = connection.scalars(text("SELECT id FROM mails WHERE state = 'waiting'")).all()
    for mail_id in waiting:
        delivery.deliver(mail_id, settings=settings)


def test_mails_go_after_thirty_days_but_not_before_their_link_is_over(
    client: Client, make_user: MakeUser, empty_database: Settings, began: datetime
) -> None:
    going, noticed, waiting = make_user(), make_user(), make_user()
    assert leave(client, going).status_code == 202
    with after(began, 20):
        # An outage of the mail server: the link is good for 30 days from now on.
        deliver_all(empty_database)
    sign_in(client, noticed, headers={"User-Agent": "curl/8"})
    deliver_all(empty_database)
    forgot = {"email": waiting.email}
    assert client.post("/api/v1/auth/password/forgot", json=forgot).status_code == 202
    sign_in(client, waiting, headers={"User-Agent": "curl/8"})
    ((dead,),) = [
        (mail_id,) for mail_id in reading_ids("kind = 'new_device' AND state = 'waiting'")
    ]
    delivery.give_up(dead)

    def there() -> list[str]:
        sweep()
        with reading() as connection:
            found = connection.scalars(text("SELECT kind FROM mails ORDER BY kind, state"))
            return list(found)

    with after(began, 30, seconds=-1):
        assert there() == ["deletion", "new_device", "new_device", "reset"]
    # What nobody could send for so long says nothing any more.
    with after(began, 30, minutes=1):
        assert there() == ["deletion"]
    with after(began, 50, seconds=-1):
        assert there() == ["deletion"]
    with after(began, 50, minutes=1):
        assert there() == []


def test_a_deletion_that_nobody_could_be_told_of_waits(
    client: Client, make_user: MakeUser, empty_database: Settings, began: datetime
) -> None:
    assert leave(client, make_user()).status_code == 202
    with after(began, 999):
        sweep()
        assert len(reading_ids("kind = 'deletion' AND state = 'waiting'")) == 1


def reading_ids(where: str) -> list[UUID]:
    with reading() as connection:
        return list(connection.scalars(text(f"SELECT id FROM mails WHERE {where}")))


def test_a_mail_whose_link_was_used_goes_after_thirty_days(
    client: Client, make_user: MakeUser, empty_database: Settings, began: datetime
) -> None:
    user = make_user()
    assert leave(client, user).status_code == 202
    with after(began, 20):
        deliver_all(empty_database)
        with transaction() as session:
            session.execute(text("UPDATE mails SET used_at = :now"), {"now": clock.now()})
    with after(began, 30, minutes=1):
        assert sweep()["mails"] == 1


def test_exports_go_after_seven_days(client: Client, make_user: MakeUser, began: datetime) -> None:
    user = make_user()
    for _ in range(2):
        asked = client.post(f"{ME}/export", token=user.token)
        assert asked.status_code == 202
        export.make(UUID(asked.json["id"]))
    with after(began, 7, seconds=-1):
        assert sweep()["exports"] == 0
    with after(began, 7, minutes=1):
        assert sweep()["exports"] == 2
    assert count("exports") == 0


def test_the_personal_part_of_events_goes_after_four_hundred_days_and_the_event_stays(
    client: Client, make_user: MakeUser, began: datetime
) -> None:
    user = make_user()
    with transaction() as session:
        suspension.suspend(
            session, actor=Actor(kind="cli"), user_id=user.id, reason="Reason", until=None
        )
        # As the release before wrote it.
        session.execute(
            text(
                "INSERT INTO audit_personal (event_id, subject_id, salt, data)"
                " SELECT id, subject_id, decode(repeat('00', 16), 'hex'), '{}' FROM audit_events"
                " WHERE subject_id = :id AND personal_digest IS NULL"
            ),
            {"id": user.id},
        )
    events, parts = count("audit_events"), count(AUDIT)
    undated = count(AUDIT, "created_at IS NULL")
    assert 0 < undated < parts
    with after(began, 400, seconds=-1):
        assert (sweep()[AUDIT], count(AUDIT)) == (0, parts)
    with after(began, 400, minutes=1):
        swept = sweep()
    assert (swept[AUDIT], swept[f"{AUDIT}_undated"]) == (parts - undated, undated)
    assert (count("audit_events"), count(AUDIT)) == (events, 0)


def test_counters_of_limits_go_when_their_time_is_over(
    client: Client, make_user: MakeUser, empty_database: Settings, began: datetime
) -> None:
    user = make_user()
    with limiting.switching(empty_database) as switch_on:
        switch_on()
        assert login(client, user, "wrong").status_code == 401
        counted = count("rate_limits")
        assert counted > 0
        assert sweep()["rate_limits"] == 0
        with after(began, 0, minutes=16):
            assert sweep()["rate_limits"] == counted


def test_books_and_audit_events_are_never_touched(
    client: Client, make_user: MakeUser, began: datetime
) -> None:
    sender, recipient = make_user(credits=100), make_user()
    for _ in range(3):
        assert send(client, sender, recipient.id, 10).status_code == 201
    kept = ("users", "accounts", "account_deltas", "transfers", "entries", "audit_events")
    before = {table: count(table) for table in kept}
    with after(began, 4_000):
        assert sum(sweep().values()) > 0
        assert sum(sweep().values()) == 0
    assert {table: count(table) for table in kept} == before
    assert list(verification.verify()) == []


def test_a_rule_works_in_batches_until_nothing_is_left(
    client: Client, make_user: MakeUser, began: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()
    for _ in range(7):
        renaming = client.patch(ME, token=user.token, json={"name": "Ada"}, key=new_key())
        assert renaming.status_code == 200
    monkeypatch.setattr(retention, "BATCH", 3)
    with after(began, 31):
        assert sweep()["idempotency_keys"] == 7
    assert count("idempotency_keys") == 0


@pytest.mark.parametrize("rule", retention.RULES)
def test_a_rule_finds_what_is_over_by_an_index(rule: str) -> None:
    """Or each run would read whole tables, however little is over."""
    statement, _ = retention.RULES[rule]
    now = clock.now()
    compiled = statement.compile(dialect=postgresql.dialect())
    values = compiled.construct_params({"now": now, "before": now, "most": 10})
    with transaction() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        session.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = session.connection().exec_driver_sql(f"EXPLAIN {compiled}", values)
        lines = "\n".join(line for (line,) in plan)
    assert "Seq Scan" not in lines
