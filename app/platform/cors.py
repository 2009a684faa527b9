"""Lets pages of the allowed origins call the API from a browser, with credentials."""

import re
from collections.abc import Container

from flask import Flask, Response
from flask_cors import CORS

from app.platform.settings import Settings

EXPOSED_HEADERS = (
    "X-Request-Id", "ETag", "Location", "Retry-After", "Idempotent-Replayed",
    "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
)  # fmt: skip
ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "X-CSRF-Token",
    "X-Request-Id",
)
PREFLIGHT_SECONDS = 600


def install(app: Flask, settings: Settings) -> None:
    """Answer preflights, and let the exact origins of the settings read answers and refusals."""
    if not settings.cors_origins:
        return
    CORS(
        app,
        # flask-cors takes texts with special characters for patterns, and ignores case.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins],
        supports_credentials=True,
        expose_headers=list(EXPOSED_HEADERS),
        allow_headers=list(ALLOWED_HEADERS),
        methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        max_age=PREFLIGHT_SECONDS,
    )

    @app.after_request
    def vary(response: Response) -> Response:
        # flask-cors leaves this out when there is one origin, and a shared cache would then give
        # the page an answer that was stored for somebody without one.
        response.vary.add("Origin")
        return response


def for_refusal(page: str | None, origins: Container[str]) -> list[tuple[str, str]]:
    """Return the headers with which a page of an allowed origin may read what Flask hasn't seen."""
    if page is None or page not in origins:
        return []
    return [
        ("Access-Control-Allow-Origin", page),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", ", ".join(EXPOSED_HEADERS)),
        ("Vary", "Origin"),
    ]
