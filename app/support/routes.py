"""HTTP of the end of a user's life, and of exports."""

from typing import Any
from uuid import UUID

from flask import Response, request

from app.auth import throttling
from app.auth.errors import InvalidCredentials
from app.platform import errors, http
from app.platform.errors import InvalidState, Overloaded
from app.platform.fields import Compiled, Empty
from app.platform.guards import current_actor, never_for_keys, requires
from app.platform.http import exists, fails, takes_key, takes_version
from app.platform.idempotency import Answer
from app.platform.replies import reply_once
from app.support import archive, deletion, export
from app.support.deletion import OwnDeletion
from app.support.errors import AccountNotSettled, SelfDeletion
from app.support.export import Export
from app.support.schemas import (
    ArchiveOut,
    DeletionIn,
    ExportOut,
    OwnDeletionIn,
)
from app.users import administration
from app.users.errors import LastAdmin, StrongerUser

blp = http.Blueprint(
    "support", __name__, url_prefix="/users", description="Leaving, and taking one's data along."
)

_export = Compiled(ExportOut())


@blp.route("/me", methods=["DELETE"])
@never_for_keys
@blp.arguments(OwnDeletionIn())
@blp.response(202, Empty())
@fails(InvalidCredentials, AccountNotSettled, LastAdmin, Overloaded)
@takes_key
def delete_me(body: dict[str, Any]) -> Response:
    """Have one's account deleted.

    All login sessions and API keys end at once. A link in a mail undoes it for 30 days; then all
    personal data is erased for good. Credits that are left are in the way, unless they are given
    up with `forfeit`.
    """
    actor = current_actor()
    own = OwnDeletion(actor=actor, **body)
    # Or who has stolen an access token could guess as often as they like.
    with throttling.confirming(user_id=actor.user.id, session_id=actor.session_id):
        return reply_once(own.apply, _accepted, prepare=own.prepare)


@blp.route("/<uuid:user_id>", methods=["DELETE"])
@requires("users:write")
@never_for_keys
@exists(administration.look_for_user)
@blp.arguments(DeletionIn())
@blp.response(202, Empty())
@fails(SelfDeletion, StrongerUser, InvalidState, AccountNotSettled, LastAdmin)
@takes_key
@takes_version
def delete_user(body: dict[str, Any], user_id: UUID) -> Response:
    """Have a user deleted; the user is told, and can undo it for 30 days."""
    actor, versions = current_actor(), http.versions()
    return reply_once(
        lambda session: deletion.delete_for_staff(
            session, actor=actor, user_id=user_id, versions=versions, **body
        ),
        _accepted,
    )


@blp.route("/me/export", methods=["POST"])
@never_for_keys
@blp.arguments(Empty())
@blp.response(202, ExportOut())
@takes_key
def request_export(_body: dict[str, Any]) -> Response:
    """Have everything put together that is known of oneself, five times a day.

    Ask for it with the id of the answer. While one is being made it is that one.
    """
    actor = current_actor()
    return reply_once(
        lambda session: export.request(session, actor=actor),
        _exported,
        prepare=lambda: export.prepare(actor=actor),
    )


@blp.route("/me/export/<uuid:export_id>")
@never_for_keys
@blp.response(200, ArchiveOut())
@blp.alt_response(202, schema=ExportOut, description="It is being made. Ask again in a moment.")
def get_export(export_id: UUID) -> Response:
    """Fetch what was put together, as a file; for seven days after it was made."""
    found = export.fetch(export_id, actor=current_actor())
    if found.content is None or found.made_at is None:
        return http.reply(_exported(found))
    if request.accept_encodings.quality("gzip") > 0:
        # As it is stored, which costs nothing.
        response = Response(found.content, content_type=errors.JSON)
        response.headers["Content-Encoding"] = "gzip"
    else:
        response = Response(archive.unpacked(found.content), content_type=errors.JSON)
    response.vary.add("Accept-Encoding")
    response.headers["Cache-Control"] = http.NO_STORE
    response.headers["Content-Disposition"] = (
        f'attachment; filename="bursar-export-{found.made_at:%Y-%m-%d}.json"'
    )
    return response


def _accepted(_: object) -> Answer:
    return http.answer({}, status=202)


def _exported(found: Export) -> Answer:
    return http.answer(_export.one(found), status=202)
