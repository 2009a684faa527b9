"""Answers probes, metrics and the front page: what machines ask without signing in."""

import hmac
import mmap
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from flask import Flask, Response, request
from gevent import Timeout, monkey

from app.platform import db, http, metrics, migrations, psycopg2_gevent, server_state
from app.platform.errors import NotFound, Unauthenticated, Unavailable
from app.platform.gauges import Gauges, Reader
from app.platform.guards import public
from app.platform.settings import Settings
from app.platform.settings.addresses import port_of
from app.platform.turns import going_first

Check = Callable[[], str]
READY_SECONDS = 1.0
KEPT_SECONDS = 1.0
# Memory that the master shares with its workers, because only the master knows: a worker that is
# told to end may also be replaced, and the service goes on.
_stopping = mmap.mmap(-1, 1)
_readiness: "Readiness | None" = None


def announce_stop() -> None:
    """Let `/ready` answer 503 from now on, in all workers of this master: the service will stop."""
    _stopping[0] = 1


def stop_is_announced() -> bool:
    """Tell whether the service is about to stop."""
    return _stopping[0] == 1


def faults() -> dict[str, str]:
    """Return the checks of `/ready` that this process doesn't pass, and what is wrong."""
    checks = _readiness.checks() if _readiness else {}
    return {name: result for name, result in checks.items() if result != "ok"}


def install(
    app: Flask,
    settings: Settings,
    *,
    checks: Mapping[str, Check],
    gauges: Iterable[Reader],
) -> None:
    """Add `/health`, `/healthz`, `/ready`, `/metrics` and `/` to the application.

    `checks` are what features need on top of the platform; each returns `ok` or what is wrong.
    `gauges` read numbers for `/metrics`, each in one statement.
    """
    global _readiness
    readiness, read_numbers = Readiness(checks), Gauges(*gauges)
    _readiness = readiness

    def health() -> Response:
        return http.respond({"status": "ok", "version": settings.version})

    def ready() -> Response:
        checks = readiness.checks()
        fine = all(result == "ok" for result in checks.values())
        body = {"status": "ready" if fine else "not ready", "checks": checks}
        response = http.respond(body, status=200 if fine else 503)
        if not fine:
            response.headers["Retry-After"] = "1"
        return response

    def numbers() -> Response:
        _admit_to_metrics(settings)
        shown = metrics.exposition() + read_numbers.exposition()
        response = Response(shown, content_type=metrics.CONTENT_TYPE)
        response.headers["Cache-Control"] = http.NO_STORE
        return response

    def front() -> Response:
        accepted = request.accept_mimetypes.best_match(["application/json", "text/html"])
        if accepted == "text/html":
            response = Response(status=303, headers={"Location": "/docs"})
        else:
            response = http.respond(
                {"name": "bursar", "version": settings.version, "docs": "/docs"}
            )
        response.headers["Vary"] = "Accept"
        return response

    views: dict[str, Callable[[], Response]] = {
        "/health": health,
        "/healthz": health,
        "/ready": ready,
        "/metrics": numbers,
        "/": front,
    }
    for path, view in views.items():
        app.add_url_rule(path, endpoint=path.strip("/") or "front", view_func=public(view))


class Readiness:
    """Checks what the service needs, at most once a second, however often it is asked."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        """Start with nothing known; `checks` are asked once the tables are there."""
        self._more = checks
        self._known: dict[str, str] = {}
        self._until = 0.0
        self._one_at_a_time = threading.Lock()

    def checks(self) -> dict[str, str]:
        """Return the name of each check and its result, `ok` when it passed."""
        if stop_is_announced():
            return {"service": "stopping"}
        with self._one_at_a_time:
            if monotonic() >= self._until:
                self._known = _check(self._more)
                self._until = monotonic() + KEPT_SECONDS
            return self._known


def _check(more: Mapping[str, Check]) -> dict[str, str]:
    checks = {"database": "unreachable", "migrations": "unknown"}
    if monkey.is_module_patched("socket"):
        # Without its wait callback one query stops all requests of this worker.
        checks["driver"] = "ok" if psycopg2_gevent.is_installed() else "blocking"
    if not db.pool_is_open():
        return checks
    limit = Timeout(READY_SECONDS)
    try:
        with limit, going_first():
            with db.reading() as connection:
                if (problem := server_state.shortcoming(connection)) is not None:
                    return checks | {"database": problem}
                found = migrations.state(connection)
            usable = found == migrations.OK
            asked = {name: check() for name, check in more.items()} if usable else {}
    except Unavailable:
        return checks
    except Timeout as late:
        if late is not limit:
            raise
        return checks | {"database": "slow"}
    return checks | {"database": "ok", "migrations": found} | asked


def _admit_to_metrics(settings: Settings) -> None:
    """Let only those read the numbers who may.

    They are on an address of their own, or behind a token, or open in development.
    Raises NotFound or Unauthenticated.
    """
    if settings.metrics_bind is not None:
        if request.environ.get("SERVER_PORT") != port_of(settings.metrics_bind):
            raise NotFound
    elif settings.metrics_token is None and settings.is_production:
        raise NotFound
    if settings.metrics_token is not None:
        sent = request.headers.get("Authorization", "").encode()
        # Compared in constant time: an answer's duration must not tell how much was right.
        if not hmac.compare_digest(sent, f"Bearer {settings.metrics_token}".encode()):
            raise Unauthenticated
