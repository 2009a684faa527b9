"""What a browser keeps of signing in, out of reach of its pages: refresh token and device token.

A browser sends its cookies along whoever's page asks, so the cookie alone proves nothing. Pages of
other sites don't get it sent (SameSite=Strict). Any other page names its `Origin`, which has to be
ours or an allowed one, and shows the CSRF token, which stands in answers that only such pages read.
"""

from urllib.parse import urlsplit
from uuid import UUID

from flask import Response, current_app, request

from app.auth import device_tokens, tokens
from app.auth.errors import InvalidRefreshToken
from app.auth.service import Tokens
from app.platform import clock
from app.platform.errors import BadRequest, Forbidden
from app.platform.settings import Settings

# With this prefix browsers take the cookie over TLS only (RFC 6265bis, 4.1.3.1).
REFRESH_COOKIE = "__Secure-bursar_refresh"
_DEVICE = "bursar_device"
_PATH = "/api/v1/auth"


def refresh_token(*, beside: str | None = None) -> str | None:
    """Return the cookie's refresh token, unproven; a body that has one as well is ambiguous.

    Raises BadRequest.
    """
    kept = request.cookies.get(_refresh_cookie()) or None
    if kept is not None and beside is not None:
        raise BadRequest("Send the refresh token in the body or in the cookie, not in both.")
    return kept


def device_token() -> str | None:
    """Return the cookie's device token."""
    return request.cookies.get(_DEVICE)


def prove_page(refresh_token: str) -> None:
    """Make sure that the page which sends the cookie along belongs to its login session.

    Raises Forbidden or InvalidRefreshToken.
    """
    refuse_foreign_page()
    session_id = tokens.read_refresh_token(refresh_token).session_id
    sent = request.headers.get("X-CSRF-Token", "")
    if not tokens.is_csrf_token(sent, session_id=session_id):
        raise Forbidden("Send the login session's csrf_token as X-CSRF-Token.")


def refuse_foreign_page() -> None:
    """Refuse pages of origins that are neither ours nor allowed; what is no page has no origin.

    Raises Forbidden.
    """
    sent = request.headers.get("Origin")
    settings = _settings()
    # The host is one of ours, or the edge had refused it. The scheme is the public one, because a
    # proxy that ends TLS speaks plain HTTP to us.
    own = f"{urlsplit(settings.public_url).scheme}://{request.host}"
    if sent is not None and sent not in (settings.public_url, own, *settings.cors_origins):
        raise Forbidden("Pages of this origin are not allowed to do this.")


def keep(issued: Tokens, response: Response) -> Response:
    """Give the browser the tokens to keep: the refresh token until its login session runs out."""
    left = issued.session_expires_at - clock.now()
    _set(response, _refresh_cookie(), issued.refresh_token, seconds=int(left.total_seconds()))
    _set(
        response, _DEVICE, issued.device_token, seconds=int(device_tokens.LIFETIME.total_seconds())
    )
    return response


def forget_of(session_id: UUID | None, response: Response) -> Response:
    """Have the browser delete the refresh token if it is that of a login session that has ended."""
    kept = refresh_token()
    try:
        is_its = kept is not None and tokens.read_refresh_token(kept).session_id == session_id
    except InvalidRefreshToken:
        is_its = False
    return forget(response) if is_its else response


def forget(response: Response) -> Response:
    """Have the browser delete the refresh token; the device stays known."""
    _set(response, _refresh_cookie(), "", seconds=0)
    return response


def _set(response: Response, name: str, value: str, *, seconds: int) -> None:
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=_PATH,
        secure=_is_secure(),
        httponly=True,
        samesite="Strict",
    )


def _refresh_cookie() -> str:
    return REFRESH_COOKIE if _is_secure() else REFRESH_COOKIE.removeprefix("__Secure-")


def _is_secure() -> bool:
    return _settings().env != "development"


def _settings() -> Settings:
    settings: Settings = current_app.extensions["bursar"]
    return settings
