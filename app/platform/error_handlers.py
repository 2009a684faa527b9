"""Turns whatever a view raised into the one JSON error, and tells log and Sentry what is broken."""

from flask import Flask, Response, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, InternalServerError

from app.platform import errors, http, sentry
from app.platform.errors import AppError, Invalid
from app.platform.logging import get_logger

# lock_timeout, serialization failure, deadlock: others were faster, nothing is broken.
LOAD = ("55P03", "40001", "40P01")
log = get_logger(__name__)


def install(app: Flask) -> None:
    """Register the handlers: AppError, ValidationError, HTTPException and 500; nothing wider."""
    app.register_error_handler(AppError, _app_error)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(500, _unexpected)
    # Flask would log each unexpected error a second time, with its path.
    app.logger.disabled = True


def _app_error(error: AppError) -> Response:
    if error.status == 503:
        # A fault behind it is something broken; a lock or a place in a queue that nobody got in
        # time is only load.
        fault = getattr(error.__cause__, "orig", error.__cause__)
        state = getattr(fault, "pgcode", None)
        broken = error.__cause__ is not None and state not in LOAD
        level = log.error if broken else log.warning
        level("unavailable", code=error.code, exc_info=error, **_affected())
    response = http.reply(http.refusal(error))
    response.headers.extend(error.headers)
    return response


def _validation_error(error: ValidationError) -> Response:
    return _app_error(Invalid(details=http.dotted(error.messages)))


def _http_exception(error: HTTPException) -> Response | HTTPException:
    """Translate werkzeug's refusals: no such path, another method, a redirect."""
    if error.code is None or error.code < 400:
        return error
    response = _app_error(errors.BY_STATUS.get(error.code, errors.BadRequest)())
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers["Allow"] = value
    return response


def _unexpected(error: InternalServerError) -> Response:
    """Answer 500 without a word about the cause; log line and Sentry event carry the same id."""
    cause = error.original_exception or error
    log.error("unexpected_error", exc_info=cause, **_affected())
    sentry.capture(cause, request_id=request.environ["bursar.request_id"])
    return http.reply(http.refusal(errors.InternalError()))


def _affected() -> dict[str, object]:
    """Return which route, whose request and which ids an error line is about."""
    environ = request.environ
    return {
        "route": environ.get("bursar.route"),
        "user_id": environ.get("bursar.user_id"),
        "ids": {name: str(value) for name, value in (request.view_args or {}).items()},
    }
