"""The headers that every answer has, whoever writes it."""

from urllib.parse import urlsplit

from app.platform.settings import Settings

# A view that sets one of these itself (the documentation page its CSP) wins.
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


def security_headers(settings: Settings) -> list[tuple[str, str]]:
    """Return them as pairs of name and value, with HSTS where clients come by https."""
    if urlsplit(settings.public_url).scheme != "https":
        return SECURITY_HEADERS
    return [*SECURITY_HEADERS, ("Strict-Transport-Security", "max-age=31536000")]
