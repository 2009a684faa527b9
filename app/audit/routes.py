"""HTTP of the audit trail."""

from typing import Any

from flask import Response

from app.audit import service
from app.audit.schemas import (
    EventListOut,
    EventListQuery,
    EventOut,
    SecurityLogEntryOut,
    SecurityLogOut,
)
from app.platform import http, pagination
from app.platform.fields import Compiled
from app.platform.guards import current_actor, requires
from app.platform.pagination import PageQuery

blp = http.Blueprint("audit", __name__, description="What happened, by whom.")

_event = Compiled(EventOut())
_entry = Compiled(SecurityLogEntryOut())


def _position(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["created_at"], row["id"]


@blp.route("/audit/events")
@requires("audit:read")
@blp.arguments(EventListQuery(), location="query")
@blp.response(200, EventListOut())
def list_events(query: dict[str, Any]) -> Response:
    """List audit events."""
    page = pagination.page(query, route="audit.events", actor=current_actor())
    rows = service.list_events(
        actor_id=query.get("actor_id"),
        action=query.get("action"),
        subject_id=query.get("subject_id"),
        request_id=query.get("request_id"),
        created_after=query.get("created_after"),
        created_before=query.get("created_before"),
        after=page.after,
        limit=page.limit,
        offset=page.offset,
    )
    return http.respond(pagination.listing(page, rows, wire=_event.one, key=_position))


@blp.route("/users/me/security-log")
@blp.arguments(PageQuery(), location="query")
@blp.response(200, SecurityLogOut())
def security_log(query: dict[str, Any]) -> Response:
    """List the events about the signed-in user."""
    actor = current_actor()
    page = pagination.page(query, route="users.me.security-log", actor=actor)
    rows = service.security_log(actor=actor, after=page.after, limit=page.limit, offset=page.offset)
    return http.respond(pagination.listing(page, rows, wire=_entry.one, key=_position))
