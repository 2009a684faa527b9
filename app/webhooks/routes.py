"""`/api/v1/webhooks`: whom to tell what has happened."""

from typing import Any
from uuid import UUID

from flask import Response

from app.platform import http, pagination
from app.platform.fields import Compiled, Empty
from app.platform.guards import current_actor, requires
from app.platform.http import exists, fails, takes_key
from app.platform.idempotency import Answer
from app.platform.pagination import PageQuery
from app.platform.replies import reply_once
from app.webhooks import queries, service
from app.webhooks.errors import TooManyWebhooks, WebhookInactive
from app.webhooks.models import WebhookRow
from app.webhooks.schemas import (
    DeliveryListOut,
    DeliveryOut,
    DeliveryQuery,
    IssuedWebhookOut,
    WebhookIn,
    WebhookListOut,
    WebhookOut,
    WebhookPatchIn,
)

blp = http.Blueprint(
    "webhooks", __name__, url_prefix="/webhooks", description="Telling an app what has happened."
)

MAY_WRITE = "webhooks:write"
_wire = Compiled(WebhookOut())
_issued_wire = Compiled(IssuedWebhookOut())
_delivery_wire = Compiled(DeliveryOut())


@blp.route("")
@requires(MAY_WRITE)
@blp.arguments(PageQuery(), location="query")
@blp.response(200, WebhookListOut())
def list_webhooks(query: dict[str, Any]) -> Response:
    """List the webhooks, newest first."""
    page = pagination.page(query, route="webhooks", actor=current_actor())
    found = queries.list_webhooks(after=page.after, limit=page.limit, offset=page.offset)
    return http.respond(
        pagination.listing(page, found, wire=_wire.one, key=lambda row: (row.created_at, row.id))
    )


@blp.route("", methods=["POST"])
@requires(MAY_WRITE)
@blp.arguments(WebhookIn())
@blp.response(201, IssuedWebhookOut())
@fails(TooManyWebhooks)
def create(body: dict[str, Any]) -> Response:
    """Make a webhook. The secret that its messages are signed with is shown this once."""
    issued = service.create(**body, actor=current_actor())
    return http.respond(
        _issued_wire.one(issued),
        status=201,
        location=f"/api/v1/webhooks/{issued['id']}",
        secret=True,
    )


@blp.route("/<uuid:webhook_id>")
@requires(MAY_WRITE)
@blp.response(200, WebhookOut())
def get(webhook_id: UUID) -> Response:
    """Get a webhook."""
    return http.respond(_wire.one(service.get(webhook_id)))


@blp.route("/<uuid:webhook_id>", methods=["PATCH"])
@requires(MAY_WRITE)
@exists(service.get)
@blp.arguments(WebhookPatchIn())
@blp.response(200, WebhookOut())
@takes_key
def patch(body: dict[str, Any], webhook_id: UUID) -> Response:
    """Change a webhook. While it isn't `active` nothing is told, and what waits goes on waiting."""
    actor = current_actor()
    return reply_once(
        lambda session: service.change(session, actor=actor, webhook_id=webhook_id, changes=body),
        _shown,
    )


@blp.route("/<uuid:webhook_id>", methods=["DELETE"])
@requires(MAY_WRITE)
@blp.arguments(Empty())
@blp.response(204)
@takes_key
def delete(_body: dict[str, Any], webhook_id: UUID) -> Response:
    """Delete a webhook, with everything that waits for it."""
    actor = current_actor()
    return reply_once(
        lambda session: service.delete(session, actor=actor, webhook_id=webhook_id), http.nothing
    )


@blp.route("/<uuid:webhook_id>/rotate", methods=["POST"])
@requires(MAY_WRITE)
@exists(service.get)
@blp.arguments(Empty())
@blp.response(201, IssuedWebhookOut())
def rotate(_body: dict[str, Any], webhook_id: UUID) -> Response:
    """Give a webhook another secret. The one until now signs beside it for 24 hours."""
    issued = service.rotate(actor=current_actor(), webhook_id=webhook_id)
    return http.respond(_issued_wire.one(issued), status=201, secret=True)


@blp.route("/<uuid:webhook_id>/deliveries")
@requires(MAY_WRITE)
@exists(service.get)
@blp.arguments(DeliveryQuery(), location="query")
@blp.response(200, DeliveryListOut())
def list_deliveries(query: dict[str, Any], webhook_id: UUID) -> Response:
    """List what was told, newest first; `status=dead` is what never arrived."""
    page = pagination.page(query, route=f"webhooks/{webhook_id}", actor=current_actor())
    found = queries.list_deliveries(
        webhook_id=webhook_id,
        status=query.get("status"),
        after=page.after,
        limit=page.limit,
        offset=page.offset,
    )
    return http.respond(
        pagination.listing(
            page, found, wire=_delivery_wire.one, key=lambda row: (row.created_at, row.id)
        )
    )


@blp.route("/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/replay", methods=["POST"])
@requires(MAY_WRITE)
@exists(service.look_for_delivery)
@blp.arguments(Empty())
@blp.response(202, DeliveryOut())
@fails(WebhookInactive)
@takes_key
def replay(_body: dict[str, Any], webhook_id: UUID, delivery_id: UUID) -> Response:
    """Deliver an event once more, under the same `webhook-id`: the tries begin anew, at once."""
    actor = current_actor()
    return reply_once(
        lambda session: service.replay(
            session, actor=actor, webhook_id=webhook_id, delivery_id=delivery_id
        ),
        lambda renewed: http.answer(_delivery_wire.one(renewed), status=202),
    )


def _shown(webhook: WebhookRow) -> Answer:
    return http.answer(_wire.one(webhook))
