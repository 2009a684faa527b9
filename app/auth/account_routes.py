"""HTTP of who a user is: signing up, a lost password, address and name."""

from typing import Any
from uuid import UUID

from flask import Response

from app.auth import addresses, profile, recovery, registration
from app.auth.schemas import (
    ForgotIn,
    ProfileIn,
    ProfilePatchIn,
    ResetIn,
    TokenIn,
)
from app.mail.errors import InvalidToken
from app.platform import http
from app.platform.errors import Forbidden, InvalidState, Overloaded
from app.platform.fields import Compiled, Empty
from app.platform.guards import current_actor, never_for_keys, public, requires
from app.platform.http import exists, fails, takes_key, takes_version
from app.platform.idempotency import Answer
from app.platform.replies import reply_once
from app.users import administration
from app.users.errors import EmailTaken, StrongerUser, WeakPassword
from app.users.models import UserRow
from app.users.schemas import UserIn, UserOut

blp = http.Blueprint("account", __name__, description="Signing up, recovery, address and name.")

_wire = Compiled(UserOut())


@blp.route("/users", methods=["POST"])
@public
@blp.arguments(UserIn())
@blp.response(201, UserOut())
@blp.alt_response(202, schema=Empty(), description="In private mode, always: a mail is sent.")
@fails(EmailTaken, WeakPassword, Overloaded)
def register(body: dict[str, Any]) -> Response:
    """Sign up.

    In private mode the answer is the same for everybody, and the user is there once the link in
    the mail was followed.
    """
    user = registration.register(**body, actor=current_actor())
    if user is None:
        return http.respond({}, status=202)
    return http.respond(
        _wire.one(user), status=201, location=f"/api/v1/users/{user.id}", etag=user.version
    )


@blp.route("/auth/password/forgot", methods=["POST"])
@public
@blp.arguments(ForgotIn())
@blp.response(202, Empty())
def forgot(body: dict[str, Any]) -> Response:
    """Have a link sent by mail that sets a new password; the same answer for every address."""
    recovery.forgot(**body, actor=current_actor())
    return http.respond({}, status=202)


@blp.route("/auth/password/reset", methods=["POST"])
@public
@blp.arguments(ResetIn())
@blp.response(204)
@fails(InvalidToken, WeakPassword, Overloaded)
def reset(body: dict[str, Any]) -> Response:
    """Set a new password with a mail's token. All login sessions end."""
    recovery.reset(**body, actor=current_actor())
    return http.reply(http.nothing(None))


@blp.route("/auth/email/verify", methods=["POST"])
@public
@blp.arguments(TokenIn())
@blp.response(204)
@fails(InvalidToken)
def verify(body: dict[str, Any]) -> Response:
    """Prove with a mail's token that its address is one's own."""
    addresses.verify(**body, actor=current_actor())
    return http.reply(http.nothing(None))


@blp.route("/auth/email/resend", methods=["POST"])
@never_for_keys
@blp.arguments(Empty())
@blp.response(202, Empty())
@takes_key
def resend(_body: dict[str, Any]) -> Response:
    """Have the mail sent again that verifies one's address."""
    actor = current_actor()
    return reply_once(
        lambda session: addresses.resend(session, actor=actor),
        _accepted,
        prepare=lambda: addresses.count_resend(actor=actor),
    )


@blp.route("/auth/undo", methods=["POST"])
@public
@blp.arguments(TokenIn())
@blp.response(204)
@fails(InvalidToken)
def undo(body: dict[str, Any]) -> Response:
    """Take back a change of address, or the deletion of one's account, with a mail's token.

    After a change of address all login sessions end, and a mail to the address that is back sets a
    new password.
    """
    addresses.undo(**body, actor=current_actor())
    return http.reply(http.nothing(None))


@blp.route("/users/me", methods=["PATCH"])
@blp.arguments(ProfilePatchIn())
@blp.response(200, UserOut())
@fails(EmailTaken, Forbidden)
@takes_key
@takes_version
def patch_me(body: dict[str, Any]) -> Response:
    """Change one's name, or ask to change one's address.

    A new address counts once the link in the mail to it was followed. The old one is told, with a
    link that undoes it.
    """
    actor, versions = current_actor(), http.versions()
    return reply_once(
        lambda session: profile.change_own(session, actor=actor, versions=versions, **body),
        _shown,
        prepare=lambda: profile.prepare(actor=actor, email=body.get("email")),
    )


@blp.route("/users/<uuid:user_id>", methods=["PUT"])
@requires("users:write")
@exists(administration.look_for_user)
@blp.arguments(ProfileIn())
@blp.response(200, UserOut())
@fails(EmailTaken, StrongerUser, InvalidState)
@takes_key
@takes_version
def put_user(body: dict[str, Any], user_id: UUID) -> Response:
    """Change a user's name and address, at once.

    A new address isn't verified. The old one is told.
    """
    return _change(body, user_id)


@blp.route("/users/<uuid:user_id>", methods=["PATCH"])
@requires("users:write")
@exists(administration.look_for_user)
@blp.arguments(ProfilePatchIn())
@blp.response(200, UserOut())
@fails(EmailTaken, StrongerUser, InvalidState)
@takes_key
@takes_version
def patch_user(body: dict[str, Any], user_id: UUID) -> Response:
    """Change a user's name or address, at once.

    A new address isn't verified. The old one is told.
    """
    return _change(body, user_id)


@blp.route("/users/<uuid:user_id>/password-reset", methods=["POST"])
@requires("users:write")
@never_for_keys
@exists(administration.look_for_user)
@blp.arguments(Empty())
@blp.response(202, Empty())
@fails(StrongerUser, InvalidState)
@takes_key
def require_reset(_body: dict[str, Any], user_id: UUID) -> Response:
    """Sign a user out everywhere until they have set a new password; a mail says how."""
    actor = current_actor()
    return reply_once(
        lambda session: recovery.require_reset(session, actor=actor, user_id=user_id), _accepted
    )


def _change(body: dict[str, Any], user_id: UUID) -> Response:
    actor, versions = current_actor(), http.versions()
    return reply_once(
        lambda session: profile.change_for_staff(
            session, actor=actor, user_id=user_id, versions=versions, **body
        ),
        _shown,
    )


def _accepted(_: object) -> Answer:
    return http.answer({}, status=202)


def _shown(user: UserRow) -> Answer:
    return http.answer(_wire.one(user), etag=user.version)
