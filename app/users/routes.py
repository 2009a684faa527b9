"""HTTP of users."""

from typing import Any
from uuid import UUID

from flask import Response

from app.platform import http, pagination
from app.platform.fields import Compiled
from app.platform.guards import also_opened_by, current_actor, requires
from app.platform.http import exists, fails, takes_key, takes_version
from app.platform.idempotency import Answer
from app.platform.replies import reply_once
from app.users import administration, service
from app.users.errors import LastAdmin, SelfPromotion, StrongerUser
from app.users.models import UserRow
from app.users.schemas import RolesIn, UserListOut, UserListQuery, UserOut

blp = http.Blueprint("users", __name__, url_prefix="/users", description="People who sign in.")

_wire = Compiled(UserOut())


def _position(user: UserRow) -> tuple[Any, ...]:
    return user.created_at, user.id


@blp.route("")
@requires("users:read")
@blp.arguments(UserListQuery(), location="query")
@blp.response(200, UserListOut())
def list_users(query: dict[str, Any]) -> Response:
    """List users."""
    page = pagination.page(query, route="users.list", actor=current_actor())
    rows = service.list_users(
        name=query.get("name"),
        email=query.get("email"),
        role=query.get("role"),
        status=query.get("status"),
        ids=query.get("ids"),
        created_after=query.get("created_after"),
        after=page.after,
        limit=page.limit,
        offset=page.offset,
    )
    return http.respond(pagination.listing(page, rows, wire=_wire.one, key=_position))


@blp.route("/me")
@blp.response(200, UserOut())
@blp.alt_response(304, description="The client has this version already.")
def get_me() -> Response:
    """Get the signed-in user."""
    actor = current_actor()
    user = service.get_user(actor.user_id, actor=actor)
    return http.respond(_wire.one(user), etag=user.version)


@blp.route("/<uuid:user_id>")
@also_opened_by("users:read")
@blp.response(200, UserOut())
@blp.alt_response(304, description="The client has this version already.")
def get_user(user_id: UUID) -> Response:
    """Get a user."""
    user = service.get_user(user_id, actor=current_actor())
    return http.respond(_wire.one(user), etag=user.version)


@blp.route("/<uuid:user_id>/roles", methods=["PUT"])
@requires("users:roles")
@exists(administration.look_for_user)
@blp.arguments(RolesIn())
@blp.response(200, UserOut())
@fails(StrongerUser, SelfPromotion, LastAdmin)
@takes_key
@takes_version
def put_roles(body: dict[str, Any], user_id: UUID) -> Response:
    """Give a user these roles and no others; they count on the user's next request."""
    actor, versions = current_actor(), http.versions()
    return reply_once(
        lambda session: administration.change_roles(
            session, actor=actor, user_id=user_id, versions=versions, **body
        ),
        _shown,
    )


def _shown(user: UserRow) -> Answer:
    return http.answer(_wire.one(user), etag=user.version)
