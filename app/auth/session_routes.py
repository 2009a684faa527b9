"""HTTP of login sessions: a user's own below `/users/me`, and those of others for staff."""

from typing import Any
from uuid import UUID

from flask import Response

from app.auth import cookies, sessions
from app.auth.schemas import LoginSessionListOut, LoginSessionOut
from app.platform import http, pagination
from app.platform.fields import Compiled, Empty
from app.platform.guards import current_actor, never_for_keys, requires
from app.platform.http import exists, fails, takes_key
from app.platform.pagination import PageQuery
from app.platform.replies import reply_once
from app.users import administration
from app.users.errors import StrongerUser

blp = http.Blueprint("sessions", __name__, description="Where a user is signed in.")

_wire = Compiled(LoginSessionOut())


def _look_for_own(session_id: UUID) -> None:
    sessions.look_for_own(session_id, actor=current_actor())


@blp.route("/users/me/sessions")
@never_for_keys
@blp.arguments(PageQuery(), location="query")
@blp.response(200, LoginSessionListOut())
def list_own(query: dict[str, Any]) -> Response:
    """List where the signed-in user is signed in, the last sign-in first."""
    return _list(query, user_id=current_actor().user_id, route="users.me.sessions")


@blp.route("/users/me/sessions", methods=["DELETE"])
@never_for_keys
@blp.arguments(Empty())
@blp.response(204)
@takes_key
def end_others(_body: dict[str, Any]) -> Response:
    """Sign out everywhere else: all login sessions end but the one that asks."""
    actor = current_actor()
    return reply_once(lambda session: sessions.end_others(session, actor=actor), http.nothing)


@blp.route("/users/me/sessions/<uuid:session_id>", methods=["DELETE"])
@never_for_keys
@exists(_look_for_own)
@blp.arguments(Empty())
@blp.response(204)
@takes_key
def end_one(_body: dict[str, Any], session_id: UUID) -> Response:
    """Sign out on one device, also on this one."""
    actor = current_actor()
    return reply_once(
        lambda session: sessions.end_one(session, actor=actor, session_id=session_id), http.nothing
    )


@blp.route("/auth/logout-all", methods=["POST"])
@never_for_keys
@blp.arguments(Empty())
@blp.response(204)
@takes_key
def logout_all(_body: dict[str, Any]) -> Response:
    """Sign out everywhere, here too. This login session's cookie, if it comes along, is deleted."""
    actor = current_actor()
    response = reply_once(lambda session: sessions.end_own(session, actor=actor), http.nothing)
    return cookies.forget_of(actor.session_id, response)


@blp.route("/users/<uuid:user_id>/sessions")
@never_for_keys
@requires("users:suspend")
@exists(administration.look_for_user)
@blp.arguments(PageQuery(), location="query")
@blp.response(200, LoginSessionListOut())
def list_for_staff(query: dict[str, Any], user_id: UUID) -> Response:
    """List where a user is signed in."""
    return _list(query, user_id=user_id, route=f"users.{user_id}.sessions")


@blp.route("/users/<uuid:user_id>/sessions", methods=["DELETE"])
@never_for_keys
@requires("users:suspend")
@exists(administration.look_for_user)
@blp.arguments(Empty())
@blp.response(204)
@fails(StrongerUser)
@takes_key
def end_for_staff(_body: dict[str, Any], user_id: UUID) -> Response:
    """Sign a user out everywhere. They may sign in again."""
    actor = current_actor()
    return reply_once(
        lambda session: sessions.end_for_staff(session, actor=actor, user_id=user_id), http.nothing
    )


def _list(query: dict[str, Any], *, user_id: UUID | None, route: str) -> Response:
    actor = current_actor()
    page = pagination.page(query, route=route, actor=actor)
    found = sessions.list_sessions(
        actor=actor, user_id=user_id, after=page.after, limit=page.limit, offset=page.offset
    )
    return http.respond(
        pagination.listing(
            page, found, wire=_wire.one, key=lambda row: (row["created_at"], row["id"])
        )
    )
