"""Whatever ends meanwhile (worker, endpoint, database), each message arrives, under one id."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.platform import clock
from tests.webhooks.listening import Receiver, listening
from tests.worker.office import Office
from tests.worker.test_lanes import happen, make_webhook
from tests.worker.working import wait_until, working


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """An app's endpoint in a process of its own."""
    with listening(tmp_path) as receiver:
        yield receiver


def states(office: Office) -> list[tuple[str, int]]:
    found = office.sql("SELECT status, attempts FROM webhook_deliveries ORDER BY id")
    return [(row.status, row.attempts) for row in found]


def test_an_endpoint_that_was_away_gets_what_it_missed(
    office: Office, receiver: Receiver, tmp_path: Path
) -> None:
    webhook = make_webhook(office, receiver.url("status/200"))
    receiver.end()
    with working(office.settings, tmp_path) as worker:
        happen(office, 2)
        worker.until("webhook_not_delivered", times=2)
        assert states(office) == [("pending", 1)] * 2
        receiver.start()
        # After five seconds, and a tenth of that at most.
        wait_until(lambda: len(receiver.got()) == 2, worker, patience=10)
        wait_until(lambda: states(office) == [("delivered", 2)] * 2, worker)
    assert all(got.verified(webhook["secret"]) for got in receiver.got())


def test_what_a_killed_worker_was_trying_another_one_tries_again(
    office: Office, receiver: Receiver, tmp_path: Path
) -> None:
    webhook = make_webhook(office, receiver.url("hang"))
    with working(office.settings, tmp_path) as worker:
        happen(office, 1)
        wait_until(lambda: len(receiver.got()) == 1, worker)
        worker.end(signal.SIGKILL)
    assert states(office) == [("pending", 0)]
    with working(office.settings, tmp_path) as worker:
        # Half a minute, which this test doesn't wait for.
        ((due,),) = office.sql("SELECT next_try_at FROM webhook_deliveries")
        assert timedelta(0) < due - clock.now() < timedelta(seconds=30)
        assert len(receiver.got()) == 1
        office.sql("UPDATE webhook_deliveries SET next_try_at = :now", now=clock.now())
        wait_until(lambda: len(receiver.got()) == 2, worker)
    first, second = receiver.got()
    assert first.id == second.id
    assert first.body == second.body
    assert second.verified(webhook["secret"])


def test_a_database_that_is_busy_for_long_costs_a_repeat_and_no_message(
    office: Office, receiver: Receiver, tmp_path: Path
) -> None:
    make_webhook(office, receiver.url("status/200"))
    with working(office.settings, tmp_path) as worker:
        happen(office, 1)
        wait_until(lambda: states(office) == [("delivered", 1)], worker)
        office.sql("UPDATE webhooks SET url = :url", url=receiver.url("hang"))
        happen(office, 1)
        wait_until(lambda: len(receiver.got("hang")) == 1, worker)
        with office.holding("LOCK TABLE webhook_deliveries IN ACCESS EXCLUSIVE MODE"):
            worker.until("webhook_lane_interrupted")
        office.sql("UPDATE webhooks SET url = :url", url=receiver.url("status/200"))
        office.sql(
            "UPDATE webhook_deliveries SET next_try_at = :now WHERE status = 'pending'",
            now=clock.now(),
        )
        wait_until(lambda: states(office) == [("delivered", 1)] * 2, worker)
        assert worker.end()[0] == 0
    assert len({got.id for got in receiver.got()}) == 2
