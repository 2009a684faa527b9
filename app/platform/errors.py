"""The one place that knows status codes: error categories, and how an error looks on the wire.

    AppError
    ├── BadRequest            400  the bytes or headers make no sense
    ├── Unauthenticated       401  no, bad, expired or revoked proof of who is asking
    ├── PaymentRequired       402  the account doesn't hold enough
    ├── Forbidden             403  known and not allowed, or a foreign page
    ├── NotFound              404  no such thing, or not for this actor
    ├── MethodNotAllowed      405  the path exists, the method doesn't
    ├── NotAcceptable         406  the client accepts nothing that we can answer
    ├── RequestTimeout        408  the body didn't arrive in time
    ├── Conflict              409  the state of things doesn't allow it
    ├── LengthRequired        411  a body was announced without a length
    ├── PreconditionFailed    412  `If-Match` names an old version
    ├── PayloadTooLarge       413  the body is above the limit
    ├── UnsupportedMediaType  415  the body isn't JSON
    ├── Unprocessable         422  well-formed, and against a rule
    ├── TooManyRequests       429  come back later
    ├── InternalError         500  a mistake of ours
    └── Unavailable           503  a passing fault: repeat the request

A domain error names a fact (`InsufficientCredits`), inherits a category and has a stable code.
Errors are RFC 9457 problems when the client prefers `application/problem+json`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import orjson
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

JSON = "application/json"
PROBLEM = "application/problem+json"


class AppError(Exception):
    """A refusal with a stable code. Subclasses say when; only this module says which status."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    message: ClassVar[str] = "Something went wrong on our side."
    headers: Mapping[str, str] = {}

    def __init__(
        self, message: str | None = None, *, details: Mapping[str, Any] | None = None
    ) -> None:
        """Take a message for people and details for programs; both go out to the client."""
        self.text = message or self.message
        self.details = details
        super().__init__(self.text)


class BadRequest(AppError):
    """The request can't be understood: malformed JSON, duplicate keys, a bad header."""

    status, code, message = 400, "BAD_REQUEST", "The request could not be understood."


class IdempotencyKeyRequired(BadRequest):
    """The operation moves credits and is only taken with an `Idempotency-Key`."""

    code = "IDEMPOTENCY_KEY_REQUIRED"
    message = "Send an Idempotency-Key header (1 to 255 visible ASCII characters)."


class Unauthenticated(AppError):
    """No access token or API key, or one that is bad, expired or revoked."""

    status, code, message = 401, "UNAUTHENTICATED", "Sign in and send a valid access token."
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class PaymentRequired(AppError):
    """The account doesn't hold what the operation takes."""

    status, code, message = 402, "INSUFFICIENT_CREDITS", "There are not enough credits."


class Forbidden(AppError):
    """The actor lacks the permission, the API key the scope, or the page that asks is foreign."""

    status, code, message = 403, "FORBIDDEN", "You are not allowed to do this."


class NotFound(AppError):
    """There is no such thing, or the actor may not know of it: both look the same."""

    status, code, message = 404, "NOT_FOUND", "There is no such resource."


class MethodNotAllowed(AppError):
    """The path exists, the method doesn't."""

    status, code, message = 405, "METHOD_NOT_ALLOWED", "This method is not allowed here."


class NotAcceptable(AppError):
    """The client accepts nothing that we can answer."""

    status, code, message = 406, "NOT_ACCEPTABLE", "Nothing we can answer is acceptable to you."


class RequestTimeout(AppError):
    """The body did not arrive in time."""

    status, code, message = 408, "REQUEST_TIMEOUT", "The request body did not arrive in time."


class Conflict(AppError):
    """The state of the resource doesn't allow the operation."""

    status, code, message = 409, "CONFLICT", "The current state does not allow this."


class InvalidState(Conflict):
    """The thing is in a state from which this step doesn't lead anywhere."""

    code = "INVALID_STATE"


class IdempotencyInProgress(Conflict):
    """The first request with this key is still running."""

    code = "IDEMPOTENCY_IN_PROGRESS"
    message = "A request with this Idempotency-Key is still running. Repeat it in a moment."
    headers: Mapping[str, str] = {"Retry-After": "1"}


class LengthRequired(AppError):
    """A body was announced without a length."""

    status, code, message = 411, "LENGTH_REQUIRED", "Send a Content-Length header."


class PreconditionFailed(AppError):
    """`If-Match` names another version than the current one."""

    status, code, message = 412, "PRECONDITION_FAILED", "The resource has changed meanwhile."


class PayloadTooLarge(AppError):
    """The body is above the limit."""

    status, code, message = 413, "PAYLOAD_TOO_LARGE", "The request body is above 1 MiB."


class UnsupportedMediaType(AppError):
    """The body isn't declared as JSON."""

    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"
    message = "Send the body as application/json."


class Unprocessable(AppError):
    """Well-formed, and against a rule."""

    status, code, message = 422, "VALIDATION_ERROR", "The request breaks a rule."


class Invalid(Unprocessable):
    """Fields have the wrong shape; `details` maps dotted field names to lists of messages."""

    message = "Some fields are not valid. See details."


class IdempotencyKeyReused(Unprocessable):
    """The key was used for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"
    message = "This Idempotency-Key was used for another request. Take a new one."


class TooManyRequests(AppError):
    """A limit is used up."""

    status, code, message = 429, "RATE_LIMITED", "Too many requests. Try again later."
    headers: Mapping[str, str] = {
        "Retry-After": "1",
        "RateLimit-Limit": "1",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "1",
    }

    def __init__(self, *, limit: int, seconds: int) -> None:
        """Take the limit, and after how many seconds there is something left of it."""
        super().__init__()
        self.headers = {
            "Retry-After": str(seconds),
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(seconds),
        }


class InternalError(AppError):
    """A mistake of ours; the message says nothing about it, the log does."""


class Unavailable(AppError):
    """A passing fault of the database or its pool: the same request may be repeated."""

    status, code, message = 503, "UNAVAILABLE", "The service is not available just now. Try again."
    headers: Mapping[str, str] = {"Retry-After": "1"}


class Overloaded(Unavailable):
    """A queue is too long to wait in."""

    code, message = "OVERLOADED", "The service has too much to do just now. Try again."


class DeadlineExceeded(Unavailable):
    """The request did not begin to answer within its deadline."""

    code, message = "TIMEOUT", "The request took too long. Try again."


BY_STATUS: Mapping[int, type[AppError]] = {
    kind.status: kind
    for kind in (
        BadRequest, Unauthenticated, Forbidden, NotFound, MethodNotAllowed, NotAcceptable,
        RequestTimeout, Conflict, LengthRequired, PreconditionFailed, PayloadTooLarge,
        UnsupportedMediaType, Unprocessable, TooManyRequests, InternalError, Unavailable,
    )
}  # fmt: skip


def prefers_problem(accept: str | None) -> bool:
    """Tell whether an `Accept` header prefers RFC 9457 problems over plain JSON."""
    if not accept or "problem+json" not in accept.lower():
        return False
    wanted = parse_accept_header(accept, MIMEAccept)
    return wanted.best_match([JSON, PROBLEM]) == PROBLEM


def render(error: AppError, *, request_id: str, problem: bool) -> tuple[int, bytes, str]:
    """Return status, body and content type of an error; usable below Flask as well."""
    details = {"details": error.details} if error.details is not None else {}
    if problem:
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": error.text,
            "code": error.code,
            "request_id": request_id,
        } | details
        return error.status, orjson.dumps(body, option=orjson.OPT_UTC_Z), PROBLEM
    body = {"code": error.code, "message": error.text, "request_id": request_id} | details
    return error.status, orjson.dumps({"error": body}, option=orjson.OPT_UTC_Z), JSON
