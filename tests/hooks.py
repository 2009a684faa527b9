"""Makes webhooks and deliveries with the product's own functions."""

from typing import Any
from uuid import UUID

from flask import Flask

from app.platform.actor import Actor
from app.platform.db import transaction
from app.webhooks import intake, queries, service
from tests import canaries, people

OPERATOR = Actor(kind="cli")


def make_webhook(url: str = "http://127.0.0.1:9/", *events: str) -> dict[str, Any]:
    """Return a new webhook with its secret; without events it wants all."""
    made = service.create(
        actor=OPERATOR, url=url, events=events or ("*",), description=None, active=True
    )
    canaries.watch(made["secret"])
    return made


def delete_all() -> None:
    """Delete all webhooks: an installation has a few at most, and tests share one."""
    for webhook in queries.list_webhooks(after=None, limit=100, offset=0):
        with transaction() as session:
            service.delete(session, actor=OPERATOR, webhook_id=webhook.id)


def make_delivery(app: Flask) -> tuple[UUID, UUID]:
    """Return the ids of a webhook, the only one, and of a delivery to it."""
    delete_all()
    webhook_id = UUID(str(make_webhook("http://127.0.0.1:9/", "user.created")["id"]))
    people.make_user(app)
    while intake.take_in():
        pass
    found = queries.list_deliveries(
        webhook_id=webhook_id, status=None, after=None, limit=1, offset=0
    )
    return webhook_id, found[0].id
