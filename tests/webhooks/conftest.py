"""A receiver for each file of tests, and a webhook that nobody else's events disturb."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Row

from app.webhooks.intake import take_in
from tests import hooks
from tests.people import TestUser
from tests.webhooks.listening import Receiver, listening

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """An app's endpoint in a process of its own, for all tests of a file."""
    with listening(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture
def make_webhook(app: Flask, sql: Sql) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that makes a webhook; before and after the test there is none."""
    clear(sql)
    yield hooks.make_webhook
    clear(sql)


@pytest.fixture
def happen(make_user: MakeUser) -> Callable[[], None]:
    """A function that lets something happen that webhooks want: somebody signs up."""

    def something() -> None:
        make_user()
        take_in()

    return something


def clear(sql: Sql) -> None:
    """Leave no webhook behind, nor anything that was to be told."""
    for table in ("webhooks", "webhook_events"):
        sql(f"DELETE FROM {table}")
    sql("DELETE FROM outbox_events WHERE data IS NOT NULL")


def deliveries(sql: Sql, webhook_id: UUID) -> list[Any]:
    """Return a webhook's deliveries with their events, the oldest first."""
    return sql(
        "SELECT e.type, e.subject_id, e.data, d.* FROM webhook_deliveries d"
        " JOIN webhook_events e ON e.id = d.event_id WHERE d.webhook_id = :id"
        " ORDER BY e.created_at, d.id",
        id=webhook_id,
    )
