"""HTTP of a user's API keys."""

from typing import Any
from uuid import UUID

from flask import Response

from app.auth import api_keys
from app.auth.api_key_schemas import (
    ApiKeyIn,
    ApiKeyListOut,
    ApiKeyOut,
    IssuedApiKeyOut,
    RotateIn,
)
from app.auth.errors import ScopeNotHeld, TooManyApiKeys
from app.platform import http, pagination
from app.platform.errors import InvalidState
from app.platform.fields import Compiled, Empty
from app.platform.guards import current_actor, never_for_keys, record_denial
from app.platform.http import exists, fails, takes_key
from app.platform.pagination import PageQuery
from app.platform.replies import reply_once

blp = http.Blueprint(
    "api-keys", __name__, url_prefix="/api-keys", description="Access for programs."
)

_wire = Compiled(ApiKeyOut())
_issued_wire = Compiled(IssuedApiKeyOut())


def _look_for_own(key_id: UUID) -> None:
    api_keys.look_for_own(key_id, actor=current_actor())


@blp.route("")
@never_for_keys
@blp.arguments(PageQuery(), location="query")
@blp.response(200, ApiKeyListOut())
def list_keys(query: dict[str, Any]) -> Response:
    """List one's API keys, expired ones too."""
    actor = current_actor()
    page = pagination.page(query, route="api-keys", actor=actor)
    found = api_keys.list_keys(actor=actor, after=page.after, limit=page.limit, offset=page.offset)
    return http.respond(
        pagination.listing(
            page, found, wire=_wire.one, key=lambda row: (row["created_at"], row["id"])
        )
    )


@blp.route("", methods=["POST"])
@never_for_keys
@blp.arguments(ApiKeyIn())
@blp.response(201, IssuedApiKeyOut())
@fails(ScopeNotHeld, TooManyApiKeys)
def create(body: dict[str, Any]) -> Response:
    """Make an API key with some of one's own rights.

    The key is in this answer and nowhere else. It never has more rights than its owner has at the
    moment: what the owner loses, it loses.
    """
    try:
        issued = api_keys.create(**body, actor=current_actor())
    except ScopeNotHeld as refusal:
        record_denial(refusal.permission)
        raise
    return http.respond(_issued_wire.one(issued), status=201, secret=True)


@blp.route("/<uuid:key_id>", methods=["DELETE"])
@never_for_keys
@exists(_look_for_own)
@blp.arguments(Empty())
@blp.response(204)
@takes_key
def delete(_body: dict[str, Any], key_id: UUID) -> Response:
    """Delete an API key: its next request is refused."""
    actor = current_actor()
    return reply_once(
        lambda session: api_keys.delete(session, actor=actor, key_id=key_id), http.nothing
    )


@blp.route("/<uuid:key_id>/rotate", methods=["POST"])
@never_for_keys
@exists(_look_for_own)
@blp.arguments(RotateIn())
@blp.response(201, IssuedApiKeyOut())
@fails(InvalidState)
def rotate(body: dict[str, Any], key_id: UUID) -> Response:
    """Give an API key another text.

    The one until now stays good for the overlap, so that no program has to pause. Of two rotations
    within one overlap the second ends the oldest text at once.
    """
    issued = api_keys.rotate(actor=current_actor(), key_id=key_id, **body)
    return http.respond(_issued_wire.one(issued), status=201, secret=True)
