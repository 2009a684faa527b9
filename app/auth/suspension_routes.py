"""HTTP of suspension: `/users/{id}/suspend` and `/users/{id}/reinstate`, for staff."""

from typing import Any
from uuid import UUID

from flask import Response

from app.auth import suspension
from app.auth.errors import SelfSuspension
from app.auth.schemas import SuspendIn
from app.platform import http
from app.platform.errors import InvalidState
from app.platform.fields import Compiled, Empty
from app.platform.guards import current_actor, requires
from app.platform.http import exists, fails, takes_key
from app.platform.idempotency import Answer
from app.platform.replies import reply_once
from app.users import administration
from app.users.errors import LastAdmin, StrongerUser
from app.users.models import UserRow
from app.users.schemas import UserOut

blp = http.Blueprint(
    "suspension",
    __name__,
    url_prefix="/users",
    description="Keeping users out, and letting them in again.",
)

_wire = Compiled(UserOut())


@blp.route("/<uuid:user_id>/suspend", methods=["POST"])
@requires("users:suspend")
@exists(administration.look_for_user)
@blp.arguments(SuspendIn())
@blp.response(200, UserOut())
@fails(SelfSuspension, StrongerUser, InvalidState, LastAdmin)
@takes_key
def suspend(body: dict[str, Any], user_id: UUID) -> Response:
    """Suspend a user: all login sessions end at once, and there are no new ones.

    A user who is suspended already gets the new reason and time.
    """
    actor = current_actor()
    return reply_once(
        lambda session: suspension.suspend(session, actor=actor, user_id=user_id, **body), _shown
    )


@blp.route("/<uuid:user_id>/reinstate", methods=["POST"])
@requires("users:suspend")
@exists(administration.look_for_user)
@blp.arguments(Empty())
@blp.response(200, UserOut())
@fails(StrongerUser, InvalidState)
@takes_key
def reinstate(_body: dict[str, Any], user_id: UUID) -> Response:
    """End a suspension before its time."""
    actor = current_actor()
    return reply_once(
        lambda session: suspension.reinstate(session, actor=actor, user_id=user_id), _shown
    )


def _shown(user: UserRow) -> Answer:
    return http.answer(_wire.one(user), etag=user.version)
