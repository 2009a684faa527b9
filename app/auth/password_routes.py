"""HTTP of one's own password: `/users/me/password`."""

from typing import Any

from flask import Response

from app.auth.errors import InvalidCredentials
from app.auth.password_change import PasswordChange
from app.auth.schemas import PasswordChangeIn
from app.platform import http
from app.platform.errors import Overloaded
from app.platform.guards import current_actor
from app.platform.http import fails, takes_key
from app.platform.idempotency import once
from app.users.errors import WeakPassword

blp = http.Blueprint("passwords", __name__, url_prefix="/users", description="One's own password.")


@blp.route("/me/password", methods=["PUT"])
@blp.arguments(PasswordChangeIn())
@blp.response(204)
@fails(InvalidCredentials, WeakPassword, Overloaded)
@takes_key
def put_password(body: dict[str, Any]) -> Response:
    """Change one's password.

    Every other login session ends at once; the one that asks stays, and so does its refresh token.
    """
    change = PasswordChange(actor=current_actor(), **body)
    return http.reply(
        once(
            actor=change.actor,
            request=http.keyed_request(required=False),
            prepare=change.prepare,
            work=change.apply,
            respond=http.nothing,
        )
    )
