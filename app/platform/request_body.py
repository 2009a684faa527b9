"""Takes in a request's body, whole and within limits, before the application sees the request.

A view that read the body itself could be held for hours by a client that sends a byte a minute,
and a chunked body above the limit would be cut off silently. What is wrong with a body is only
noted here: it is answered after sign-in and permission, as the order of checks wants it.
"""

from io import BytesIO
from typing import Any

from gunicorn.http.errors import ParseException

from app.platform.deadlines import BodyDeadline
from app.platform.errors import (
    AppError,
    BadRequest,
    LengthRequired,
    PayloadTooLarge,
    RequestTimeout,
)

LIMIT_BYTES = 1 << 20
_CARRY_A_BODY = frozenset({"POST", "PUT", "PATCH"})


def take_in(environ: dict[str, Any]) -> AppError | None:
    """Replace `wsgi.input` by the whole body in memory, or by nothing when the body is refused.

    Returns the refusal. Passes on any deadline but BodyDeadline, which becomes RequestTimeout.
    """
    refusal: AppError | None = None
    body = b""
    try:
        body = _read(environ)
    except AppError as error:
        refusal = error
    except (BodyDeadline, TimeoutError):
        refusal = RequestTimeout()
    except (OSError, ParseException):
        # gunicorn's errors about chunks, or a client that went away in the middle.
        refusal = BadRequest("The request body is malformed or incomplete.")
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return refusal


def _read(environ: dict[str, Any]) -> bytes:
    """Return the whole body.

    Raises BadRequest, LengthRequired, PayloadTooLarge; BodyDeadline and gunicorn's errors pass.
    """
    stream = environ["wsgi.input"]
    if "HTTP_TRANSFER_ENCODING" in environ:
        body: bytes = stream.read(LIMIT_BYTES + 1)
        if len(body) > LIMIT_BYTES:
            raise PayloadTooLarge
        return body
    declared = environ.get("CONTENT_LENGTH")
    if not declared:
        # Without either header there is no body (RFC 9112, section 6.3); a client that names
        # the type of one has forgotten its length. GET often carries a pointless Content-Type.
        if environ.get("CONTENT_TYPE") and environ["REQUEST_METHOD"] in _CARRY_A_BODY:
            raise LengthRequired
        return b""
    if not declared.isdecimal():
        raise BadRequest("Content-Length is not a number.")
    if int(declared) > LIMIT_BYTES:
        raise PayloadTooLarge
    body = stream.read(int(declared))
    if len(body) < int(declared):
        raise BadRequest("The request body is shorter than its Content-Length.")
    return body
