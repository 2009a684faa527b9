"""Counts what comes of trying to sign in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.auth.errors import EmailNotVerified, InvalidCredentials, ResetRequired, UserSuspended
from app.platform import metrics
from app.platform.errors import AppError, Overloaded, TooManyRequests, Unavailable

SIGNED_IN: Final = "SIGNED_IN"
_REFUSALS: Final = (
    InvalidCredentials, UserSuspended, ResetRequired, EmailNotVerified,
    TooManyRequests, Overloaded, Unavailable,
)  # fmt: skip
_logins = metrics.counter(
    "logins_total",
    "Tries to sign in: SIGNED_IN, or the code of the refusal.",
    outcome=[SIGNED_IN, *(refusal.code for refusal in _REFUSALS)],
)


@contextmanager
def login() -> Iterator[None]:
    """Count a try to sign in by what comes of it; a mistake of ours is counted as its 500 alone."""
    try:
        yield
    except AppError as refusal:
        _logins.of(refusal.code).inc()
        raise
    _logins.of(SIGNED_IN).inc()
