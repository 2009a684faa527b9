"""HTTP of one's own password: `/users/me/password`."""

from typing import Any

from flask import Response

from app.auth import throttling
from app.auth.errors import InvalidCredentials
from app.auth.password_change import PasswordChange
from app.auth.schemas import PasswordChangeIn
from app.platform import http
from app.platform.errors import Overloaded
from app.platform.guards import current_actor, never_for_keys
from app.platform.http import fails, takes_key
from app.platform.replies import reply_once
from app.users.errors import WeakPassword

blp = http.Blueprint("passwords", __name__, url_prefix="/users", description="One's own password.")


@blp.route("/me/password", methods=["PUT"])
@never_for_keys
@blp.arguments(PasswordChangeIn())
@blp.response(204)
@fails(InvalidCredentials, WeakPassword, Overloaded)
@takes_key
def put_password(body: dict[str, Any]) -> Response:
    """Change one's password.

    Every other login session ends at once; the one that asks stays, and so does its refresh token.
    """
    actor = current_actor()
    change = PasswordChange(actor=actor, **body)
    # Or who has stolen an access token could guess as often as they like.
    with throttling.confirming(user_id=actor.user.id, session_id=actor.session_id):
        return reply_once(change.apply, http.nothing, prepare=change.prepare)
