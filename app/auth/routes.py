"""HTTP of signing in."""

from dataclasses import asdict
from typing import Any

from flask import Flask, Response, after_this_request
from flask_jwt_extended import JWTManager

from app.auth import cookies, service, sessions, tokens
from app.auth.errors import (
    EmailNotVerified,
    InvalidCredentials,
    InvalidRefreshToken,
    SessionRevoked,
    UserSuspended,
)
from app.auth.schemas import BrowserTokensOut, LoginIn, LogoutIn, RefreshIn, TokensOut
from app.auth.service import Tokens
from app.platform import http
from app.platform.errors import Forbidden, Overloaded, Unauthenticated
from app.platform.fields import Compiled
from app.platform.guards import (
    counted_if_refused,
    counts_itself,
    current_actor,
    never_for_keys,
    or_other_proof,
    public,
)
from app.platform.http import fails, takes_cookie, takes_key
from app.platform.replies import reply_once
from app.platform.settings import Settings

blp = http.Blueprint("auth", __name__, url_prefix="/auth", description="Signing in and out.")

_TOKENS = {"oneOf": [TokensOut, BrowserTokensOut]}
_wire = Compiled(TokensOut())
_browser_wire = Compiled(BrowserTokensOut())


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
@counts_itself
@blp.arguments(LoginIn())
@blp.response(200, _TOKENS)
@fails(InvalidCredentials, UserSuspended, EmailNotVerified, Forbidden, Overloaded)
def login(body: dict[str, Any]) -> Response:
    """Sign in.

    A browser asks for the transport `cookie`: the refresh token then is in no answer, and requests
    that its cookie is to prove bring the `csrf_token` along.
    """
    by_cookie = body.pop("transport") == "cookie"
    if by_cookie:
        cookies.refuse_foreign_page()
    body["device_token"] = body["device_token"] or cookies.device_token()
    issued = service.login(**body, actor=current_actor())
    return _signed_in(issued, by_cookie=by_cookie)


@blp.route("/refresh", methods=["POST"])
@public
@counted_if_refused
@blp.arguments(RefreshIn())
@blp.response(200, _TOKENS)
@fails(InvalidRefreshToken, SessionRevoked, Forbidden)
@takes_cookie(cookies.REFRESH_COOKIE)
def refresh(body: dict[str, Any]) -> Response:
    """Exchange a refresh token for new tokens, which come as it came: in the body or the cookie."""
    sent = body["refresh_token"]
    kept = cookies.refresh_token(beside=sent)
    if kept is not None:
        cookies.prove_page(kept)
    token = kept or sent
    if token is None:
        raise InvalidRefreshToken
    try:
        issued = service.refresh(
            refresh_token=token, is_shared=kept is not None, actor=current_actor()
        )
    except SessionRevoked:
        if kept is not None:
            after_this_request(cookies.forget)
        raise
    return _signed_in(issued, by_cookie=kept is not None)


@blp.route("/logout", methods=["POST"])
@or_other_proof
@never_for_keys
@counted_if_refused
@blp.arguments(LogoutIn())
@blp.response(204)
@fails(InvalidRefreshToken, Forbidden)
@takes_key
@takes_cookie(cookies.REFRESH_COOKIE)
def logout(body: dict[str, Any]) -> Response:
    """Sign out.

    Ends the login session of the refresh token in the body, or else of the access token, or else of
    the cookie: its access tokens are dead on their next use. Its cookie, if it comes along, is
    deleted. An access token that isn't good any more counts as none.
    """
    actor, token = current_actor(), body["refresh_token"]
    kept = cookies.refresh_token(beside=token)
    if actor.user_id is None and kept is not None:
        cookies.prove_page(kept)
        token = kept
    if actor.user_id is None and token is None:
        raise Unauthenticated
    response = reply_once(
        lambda session: sessions.logout(session, actor=actor, refresh_token=token), http.nothing
    )
    if actor.user_id is None and kept is not None:
        return cookies.forget(response)
    return cookies.forget_of(actor.session_id, response)


def _signed_in(issued: Tokens, *, by_cookie: bool) -> Response:
    if not by_cookie:
        return http.respond(_wire.one(issued), secret=True)
    csrf_token = tokens.make_csrf_token(session_id=issued.session_id)
    shown = asdict(issued) | {"csrf_token": csrf_token}
    return cookies.keep(issued, http.respond(_browser_wire.one(shown), secret=True))
