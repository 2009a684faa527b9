"""Adds up how long a stop may take, and holds all time limits against each other.

Each is shorter than the next, so that the innermost one speaks: a statement that waits too long
becomes an error answer, and not a request, a worker or a whole service that is killed.
"""

from itertools import pairwise
from math import ceil

from app.platform import deadlines, psycopg2_gevent, worker
from app.platform.engine import TIMEOUTS
from app.platform.settings import Settings, SettingsError


def graceful_seconds() -> int:
    """Return what a worker needs at most from SIGTERM to its end, in whole seconds.

    The last request may come just before it stops to accept, on a connection that was idle.
    """
    accepts = worker.ACCEPT_SECONDS + worker.IDLE_GRACE_SECONDS
    return ceil(accepts + deadlines.REQUEST_SECONDS + worker.CUT_BEFORE_KILL_SECONDS)


def check(settings: Settings, *, graceful_timeout: float) -> None:
    """Check that every limit holds those within it, up to the end that is set from outside.

    Raises SettingsError.
    """
    limits = [
        ("lock_timeout", _seconds("lock_timeout")),
        ("statement_timeout", _seconds("statement_timeout")),
        ("the driver's deadline of a statement", psycopg2_gevent.STATEMENT_SECONDS),
        (
            "idle_in_transaction_session_timeout",
            _seconds("idle_in_transaction_session_timeout"),
        ),
        ("a request's deadline", deadlines.REQUEST_SECONDS),
        ("gunicorn's graceful_timeout", graceful_timeout),
        (
            "what APP_SERVER_DRAIN_SECONDS leaves of APP_SERVER_STOP_SECONDS",
            settings.server_stop_seconds - settings.server_drain_seconds,
        ),
    ]
    problems = [
        f"{inner} is {shorter:g} s and {outer} {longer:g} s; the first must be the shorter one."
        for (inner, shorter), (outer, longer) in pairwise(limits)
        if shorter >= longer
    ]
    if deadlines.REQUEST_SECONDS < graceful_timeout < graceful_seconds():
        problems.append(
            f"gunicorn's graceful_timeout is {graceful_timeout:g} s, and the longest request with"
            f" what comes after it {graceful_seconds()} s; leave the option out."
        )
    if problems:
        raise SettingsError(problems, production=settings.is_production)


def _seconds(name: str) -> float:
    return float(TIMEOUTS[name].removesuffix("s"))
