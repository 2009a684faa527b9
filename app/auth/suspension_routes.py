"""HTTP of suspension: `/users/{id}/suspend` and `/users/{id}/reinstate`, for staff."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session

from app.auth import suspension
from app.auth.errors import SelfSuspension
from app.auth.schemas import EmptyIn, SuspendIn
from app.platform import http
from app.platform.errors import InvalidState
from app.platform.fields import Compiled
from app.platform.guards import current_actor, requires
from app.platform.http import exists, fails, takes_key
from app.platform.idempotency import Answer, once
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
    return _reply(lambda session: suspension.suspend(session, actor=actor, user_id=user_id, **body))


@blp.route("/<uuid:user_id>/reinstate", methods=["POST"])
@requires("users:suspend")
@exists(administration.look_for_user)
@blp.arguments(EmptyIn())
@blp.response(200, UserOut())
@fails(StrongerUser, InvalidState)
@takes_key
def reinstate(_body: dict[str, Any], user_id: UUID) -> Response:
    """End a suspension before its time."""
    actor = current_actor()
    return _reply(lambda session: suspension.reinstate(session, actor=actor, user_id=user_id))


def _reply(work: Callable[[Session], UserRow]) -> Response:
    """Do what staff asked for, once, and answer the user."""
    done = once(
        actor=current_actor(),
        request=http.keyed_request(required=False),
        work=work,
        respond=_shown,
    )
    return http.reply(done)


def _shown(user: UserRow) -> Answer:
    return http.answer(_wire.one(user), etag=user.version)
