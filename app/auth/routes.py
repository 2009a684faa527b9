"""HTTP of signing in."""

from typing import Any

from flask import Flask, Response
from flask_jwt_extended import JWTManager

from app.auth import service, tokens
from app.auth.errors import (
    InvalidCredentials,
    InvalidRefreshToken,
    SessionRevoked,
    UserSuspended,
)
from app.auth.schemas import LoginIn, LogoutIn, RefreshIn, TokensOut
from app.platform import http
from app.platform.errors import Overloaded, Unauthenticated
from app.platform.fields import Compiled
from app.platform.guards import current_actor, or_proof_in_body, public
from app.platform.http import fails, takes_key
from app.platform.idempotency import Answer, once
from app.platform.settings import Settings

blp = http.Blueprint("auth", __name__, url_prefix="/auth", description="Signing in and out.")

_wire = Compiled(TokensOut())


def install(app: Flask, settings: Settings) -> None:
    """Set up flask-jwt-extended for access tokens, with the key ring and the one kind of refusal.

    Its error handlers are for views that use it directly. There are none, and if there were one,
    it would answer 401 like every other.
    """
    app.config.update(tokens.configuration(settings))
    manager = JWTManager(app)
    tokens.use_key_ring(manager)
    manager.expired_token_loader(_refuse)
    manager.invalid_token_loader(_refuse)
    manager.needs_fresh_token_loader(_refuse)
    manager.revoked_token_loader(_refuse)
    manager.token_verification_failed_loader(_refuse)
    manager.unauthorized_loader(_refuse)
    manager.user_lookup_error_loader(_refuse)


def _refuse(*_reasons: object) -> Response:
    response = http.reply(http.refusal(Unauthenticated()))
    response.headers.extend(Unauthenticated.headers)
    return response


@blp.route("/login", methods=["POST"])
@public
@blp.arguments(LoginIn())
@blp.response(200, TokensOut())
@fails(InvalidCredentials, UserSuspended, Overloaded)
def login(body: dict[str, Any]) -> Response:
    """Sign in."""
    issued = service.login(**body, actor=current_actor())
    return http.respond(_wire.one(issued), secret=True)


@blp.route("/refresh", methods=["POST"])
@public
@blp.arguments(RefreshIn())
@blp.response(200, TokensOut())
@fails(InvalidRefreshToken, SessionRevoked)
def refresh(body: dict[str, Any]) -> Response:
    """Exchange a refresh token for new tokens."""
    issued = service.refresh(**body, actor=current_actor())
    return http.respond(_wire.one(issued), secret=True)


@blp.route("/logout", methods=["POST"])
@or_proof_in_body
@blp.arguments(LogoutIn())
@blp.response(204)
@fails(InvalidRefreshToken)
@takes_key
def logout(body: dict[str, Any]) -> Response:
    """Sign out.

    Ends the login session of the refresh token, or of the access token when there is none: its
    access tokens are dead on their next use.
    """
    actor = current_actor()
    if actor.user_id is None and body["refresh_token"] is None:
        raise Unauthenticated
    return http.reply(
        once(
            actor=actor,
            request=http.keyed_request(required=False),
            work=lambda session: service.logout(session, actor=actor, **body),
            respond=lambda _: Answer(status=204, body=b""),
        )
    )
