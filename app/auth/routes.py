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
from app.auth.schemas import LoginIn, RefreshIn, TokensOut
from app.platform import http
from app.platform.errors import Overloaded, Unauthenticated
from app.platform.fields import compiled
from app.platform.guards import current_actor, public
from app.platform.http import fails
from app.platform.settings import Settings

blp = http.Blueprint("auth", __name__, url_prefix="/auth", description="Signing in and out.")

_wire = compiled(TokensOut())


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
@blp.response(204)
def logout() -> Response:
    """Sign out: this access token is dead on its next use."""
    service.logout(actor=current_actor())
    return http.empty()
