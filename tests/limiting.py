"""Switches the limits on, which the suite does without, with counters that nobody has used."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import time_machine
from werkzeug.test import TestResponse

from app.platform import clock, ratelimit
from app.platform.ratelimit import Limiter
from app.platform.settings import Settings

SwitchOn = Callable[..., Limiter]


@contextmanager
def switching(settings: Settings) -> Iterator[SwitchOn]:
    """Give a function that limits this process's requests from now on, by changed settings.

    Called again it is another worker: it knows of nothing but the shared counters.
    """
    # Another key is other names of all counters.
    key = os.urandom(32)

    def switch_on(**changes: Any) -> Limiter:
        changed = replace(settings, rate_limit_enabled=True, **changes)
        ratelimit.configure(changed, key=key)
        assert ratelimit._limiter is not None
        return ratelimit._limiter

    try:
        yield switch_on
    finally:
        ratelimit.configure(settings, key=key)


def later(seconds: float) -> time_machine.travel:
    """Move the clock."""
    return time_machine.travel(clock.now() + timedelta(seconds=seconds), tick=False)


def assert_limited(answer: TestResponse, *, limit: int, within: float) -> None:
    """Check that an answer is 429 and says when to come back."""
    assert (answer.status_code, answer.json["error"]["code"]) == (429, "RATE_LIMITED")
    assert answer.headers["RateLimit-Limit"] == str(limit)
    assert answer.headers["RateLimit-Remaining"] == "0"
    assert answer.headers["RateLimit-Reset"] == answer.headers["Retry-After"]
    assert within - 5 <= int(answer.headers["Retry-After"]) <= within
    assert answer.headers["Cache-Control"] == "no-store"
