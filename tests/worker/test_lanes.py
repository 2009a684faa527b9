"""A worker delivers to each webhook by itself: one that hangs holds nobody up."""

from pathlib import Path
from typing import Any

import pytest

from app.platform import clock, ids
from app.webhooks import destinations
from tests import hooks
from tests.webhooks.listening import Receiver, listening
from tests.worker.office import Office
from tests.worker.working import wait_until, working


def make_webhook(office: Office, url: str) -> dict[str, Any]:
    """Make a webhook that wants everything."""
    destinations.configure(office.settings)
    return hooks.make_webhook(url)


def happen(office: Office, number: int) -> None:
    """Let something happen so many times: rows as the triggers write them."""
    for _ in range(number):
        office.sql(
            "INSERT INTO outbox_events (id, topic, subject_id, data, created_at)"
            " VALUES (:id, 'order.paid', :id, '{\"total\": 1}', :now)",
            id=ids.new(),
            now=clock.now(),
        )


@pytest.mark.usefixtures("traced")
def test_webhooks_that_hang_hold_up_neither_others_nor_mails(
    office: Office, tmp_path: Path
) -> None:
    with listening(tmp_path) as receiver, working(office.settings, tmp_path) as worker:
        office.ask()
        worker.until("mail_written")
        for _ in range(6):
            make_webhook(office, receiver.url("hang"))
        # More than the tries of these and the threads of jobs together.
        happen(office, 8)
        # All of them taken in: what is left goes to the next webhook, too.
        wait_until(lambda: _deliveries(office) == 6 * 8, worker)
        wait_until(lambda: len(receiver.got("hang")) >= 24, worker)
        webhook = make_webhook(office, receiver.url("status/200"))
        happen(office, 3)
        (mail_id,) = office.ask()
        # In one line with the others it would take a minute until it is their turn.
        wait_until(lambda: len(receiver.got("status/200")) == 3, worker)
        wait_until(lambda: office.arrived(mail_id), worker)
        assert all(got.verified(webhook["secret"]) for got in receiver.got("status/200"))
        # What is being tried is ended and noted before the worker ends.
        code, seconds = worker.end()
        assert code == 0
        assert seconds < 15
        assert len(worker.lines("webhook_not_delivered")) == len(receiver.got("hang"))
        line = worker.lines("webhook_not_delivered")[0]
        assert (line["reason"], line["status"], line["attempts"]) == ("timed_out", None, 1)
        assert str(receiver.port) not in worker.log.read_text()
    _all_noted(office, receiver)


def _deliveries(office: Office) -> int:
    ((number,),) = office.sql("SELECT count(*) FROM webhook_deliveries")
    return int(number)


def _all_noted(office: Office, receiver: Receiver) -> None:
    ((noted,),) = office.sql("SELECT sum(attempts) FROM webhook_deliveries")
    assert noted == len(receiver.got())
    assert office.sql("SELECT count(*) FROM webhook_deliveries WHERE status = 'delivered'") == [
        (3,)
    ]
