"""The one clock. Every deciding time is read here, so that tests can move it."""

import time as _time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def time() -> float:
    """Return the current time in seconds since the epoch."""
    return _time.time()
