"""Reports unexpected errors to Sentry, and nothing of anybody's data with them.

An event says which error, where in our code, in which release, and under which request id; the log
lines with that id tell the rest. No body, header, query string, address, user, local variable,
breadcrumb or word of an error leaves the process.
"""

from typing import Any

from app.platform.settings import Settings

# What an event may consist of. Everything else is dropped, whatever a later SDK adds.
_KEPT = frozenset(
    {"event_id", "timestamp", "platform", "level", "release", "environment", "sdk", "exception"}
    | {"tags", "contexts"}
)
_FRAME = frozenset(
    {"filename", "abs_path", "function", "module", "lineno", "in_app"}
    | {"context_line", "pre_context", "post_context"}
)
_started = False


def start(settings: Settings) -> None:
    """Begin to report, if a DSN is set; in each worker after the fork, because it starts a thread.

    The SDK is imported only here: it costs memory and start-up time that most installs don't need.
    """
    global _started
    if settings.sentry_dsn is None:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        release=settings.version,
        environment=settings.env,
        # No integration: they would patch Flask and logging, and cost 200 µs on each request.
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
        include_local_variables=False,
        max_request_body_size="never",
        send_default_pii=False,
        send_client_reports=False,
        max_breadcrumbs=0,
        server_name="",
        before_send=_scrubbed,
    )
    _started = True


def capture(error: BaseException, *, request_id: str | None) -> None:
    """Report an error in the background; does nothing unless reporting was started."""
    if not _started:
        return
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        if request_id is not None:
            scope.set_tag("request_id", request_id)
        scope.capture_exception(error)


def stop(seconds: float) -> None:
    """Wait until what was reported has left, at most this long; later errors aren't reported."""
    global _started
    if not _started:
        return
    import sentry_sdk

    sentry_sdk.flush(timeout=seconds)
    _started = False


def _scrubbed(event: Any, _hint: dict[str, Any]) -> Any:
    """Return the event with only what is known to be harmless (an allow-list, not a deny-list)."""
    kept = {name: value for name, value in event.items() if name in _KEPT}
    for shown in kept.get("exception", {}).get("values", []):
        # An error's words may quote parameters, rows or tokens.
        shown["value"] = ""
        frames = (shown.get("stacktrace") or {}).get("frames", [])
        for index, frame in enumerate(frames):
            frames[index] = {name: frame[name] for name in frame if name in _FRAME}
    kept["contexts"] = {
        name: value for name, value in kept.get("contexts", {}).items() if name == "runtime"
    }
    return kept
