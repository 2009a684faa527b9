"""The OpenAPI 3.1 document, generated from the code.

flask-smorest documents paths, bodies and answers. The errors are added here, from the same marks
that the guards and the parser obey, so that the document can't say anything else than they do.
"""

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import flask_smorest
from flask import Flask, Response, request

from app.platform import errors, guards, http
from app.platform.errors import AppError
from app.platform.overload import PROBES
from app.platform.settings import Settings

BODY_ERRORS: tuple[type[AppError], ...] = (
    errors.RequestTimeout,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
)
KEY_ERRORS: tuple[type[AppError], ...] = (
    errors.IdempotencyInProgress,
    errors.IdempotencyKeyReused,
)
DESCRIPTION = """Accounts, credits and orders for one app.

Sign in with `POST /api/v1/auth/login` and send the access token as `Authorization: Bearer …`.
Programs send an API key there, which `POST /api/v1/api-keys` makes.
Credits are integers, times RFC 3339 in UTC, ids UUIDs. Every answer carries `X-Request-Id`.
Errors have a stable `code`; send `Accept: application/problem+json` to get RFC 9457 problems.
"""
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "request_id": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "details": {"type": "object"},
    },
}
# What machines and people ask outside of the API: summary, and what each status means.
AROUND: dict[str, tuple[str, dict[int, str]]] = {
    "/": ("Name and version", {200: "Name, version and where to read", 303: "To /docs"}),
    "/health": ("Liveness; never touches the database", {200: "Alive"}),
    "/healthz": ("The same as /health", {200: "Alive"}),
    "/ready": ("Readiness", {200: "Ready", 503: "Not ready; `checks` says why"}),
    "/metrics": (
        "Metrics of all workers, for Prometheus",
        {200: "The numbers", 401: "The token is missing", 404: "Not on this address"},
    ),
    "/docs": ("The page to read and try this API", {200: "The page"}),
    "/account/verify": ("The page behind links that verify an address", {200: "The page"}),
    "/account/reset": ("The page behind links that set a new password", {200: "The page"}),
    "/account/undo": ("The page behind links that take a change back", {200: "The page"}),
    "/openapi.json": ("This document", {200: "The document", 304: "You have it"}),
}
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the request repeatable: the same key gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
    "example": "5f0c9a52-transfer-1",
}
CSRF_PARAMETER = {
    "name": "X-CSRF-Token",
    "in": "header",
    "required": False,
    "description": "Goes with the cookie: `csrf_token` of its login session.",
    "schema": {"type": "string"},
}
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "An access token, or an API key (`bk_…`) with the scope that is named.",
}
COOKIE = {
    "type": "apiKey",
    "in": "cookie",
    "description": "What a browser keeps; in development its name begins without `__Secure-`.",
}
VERSION_PARAMETER = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of the version to change: nothing happens if it is another by now.",
    "schema": {"type": "string"},
    "example": '"7"',
}
REQUEST_ID_HEADER = {"description": "Names this request in our log.", "schema": {"type": "string"}}


def create_api(app: Flask, settings: Settings) -> flask_smorest.Api:
    """Return the collector that blueprints are registered with."""
    app.config |= {
        "API_TITLE": "Bursar",
        "API_VERSION": settings.version,
        "OPENAPI_VERSION": "3.1.0",
        "API_SPEC_OPTIONS": {
            "info": {"description": DESCRIPTION, "license": {"name": "Apache-2.0"}},
            "servers": [{"url": settings.public_url}],
        },
    }
    return flask_smorest.Api(app)


def install(app: Flask, api: flask_smorest.Api) -> None:
    """Serve the document at `/openapi.json`; it is built once, after all routes are there."""
    app.extensions["bursar_openapi"] = built = document(app, api)
    body = http.dumps(built)
    etag = hashlib.sha256(body).hexdigest()[:32]

    @app.get("/openapi.json")
    @guards.public
    def openapi() -> Response:
        request.environ["bursar.unchanging"] = True
        response = Response(body, content_type=errors.JSON)
        response.headers["Cache-Control"] = "public, max-age=600"
        return http.conditional(response, etag)


def document(app: Flask, api: flask_smorest.Api) -> dict[str, Any]:
    """Return the whole document, as a dict of JSON values."""
    spec: dict[str, Any] = api.spec.to_dict()
    components = spec.setdefault("components", {})
    cookies = {vars(view)["cookie"] for _, _, view in operations(app) if "cookie" in vars(view)}
    components["securitySchemes"] = {"bearer": BEARER, "cookie": COOKIE | {"name": cookies.pop()}}
    components["schemas"] |= {"Error": ERROR, "Problem": PROBLEM}
    components.pop("responses", None)
    components["schemas"].pop("PaginationMetadata", None)
    for name, schema in components["schemas"].items():
        # Answers always have all their fields; marshmallow marks only what requests need.
        if name.endswith("Out"):
            schema["required"] = list(schema["properties"])
    for rule, method, view in operations(app):
        path = path_of(rule)
        if path in spec["paths"] and method in spec["paths"][path]:
            _complete(spec["paths"][path][method], rule=rule, method=method, view=view)
    for path, (summary, answers) in AROUND.items():
        responses = {str(status): {"description": text} for status, text in answers.items()}
        if path not in PROBES:
            responses["429"] = _failure(429, {"RATE_LIMITED": errors.TooManyRequests})
        operation = {"summary": summary, "tags": ["around"], "security": [], "responses": responses}
        spec["paths"][path] = {"get": operation}
    return spec


def operations(app: Flask) -> list[tuple[str, str, Callable[..., Any]]]:
    """Return every (rule, lower-case method, view) of the URL map, HEAD and OPTIONS left out."""
    return [
        (rule.rule, method.lower(), app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
        if method not in ("HEAD", "OPTIONS")
    ]


def failures(rule: str, method: str, view: Callable[..., Any]) -> list[type[AppError]]:
    """Return the errors that a view can answer, but for mistakes of ours (500)."""
    locations = {parameter["in"] for parameter in http.parameters_of(view)}
    access = guards.access(view)
    kinds: list[type[AppError]] = [errors.BadRequest, errors.Unavailable, errors.DeadlineExceeded]
    if rule not in PROBES:
        kinds.append(errors.TooManyRequests)
    if rule.startswith("/api/"):
        kinds.append(errors.Invalid)
    if access != guards.PUBLIC or guards.condition(view):
        # Also where no permission is asked for: an API key needs a scope everywhere.
        kinds += (errors.Unauthenticated, errors.Forbidden)
    if "<" in rule:
        kinds.append(errors.NotFound)
    if "json" in locations:
        kinds.extend(BODY_ERRORS)
        # Clients name a type in each request, and nobody sends the length of a DELETE's no body.
        if method != "delete":
            kinds.append(errors.LengthRequired)
    if "keyed" in vars(view):
        kinds.extend(KEY_ERRORS)
    if vars(view).get("keyed") == "required":
        kinds.append(errors.IdempotencyKeyRequired)
    if "versioned" in vars(view):
        kinds.append(errors.PreconditionFailed)
    kinds.extend(vars(view).get("fails", ()))
    return kinds


def _complete(
    operation: dict[str, Any], *, rule: str, method: str, view: Callable[..., Any]
) -> None:
    """Add what the marks of a view say: errors, key, sign-in."""
    access = guards.access(view)
    takes_cookie = "cookie" in vars(view)
    also_signed_in = access == guards.OPTIONAL or guards.condition(view) is not None
    only_public = access == guards.PUBLIC and not also_signed_in
    ways: list[dict[str, list[str]]] = [] if only_public else [{"bearer": []}]
    if takes_cookie:
        ways.append({"cookie": []})
        operation.setdefault("parameters", []).append(CSRF_PARAMETER)
    # A refresh token in the body is no security scheme that the document could name.
    operation["security"] = [*ways, {}] if takes_cookie or also_signed_in else ways
    said = [operation.get("description", ""), *_rights(view, method)]
    operation["description"] = "\n\n".join(part for part in said if part)
    keyed = vars(view).get("keyed")
    if keyed:
        # A trial takes no key, and so the header can't be called required where there is one.
        trial = any(each.get("name") == "dry_run" for each in operation.get("parameters", ()))
        required = keyed == "required" and not trial
        operation.setdefault("parameters", []).append(KEY_PARAMETER | {"required": required})
    versioned = "versioned" in vars(view)
    if versioned:
        operation.setdefault("parameters", []).append(VERSION_PARAMETER)
    answers = {
        status: answer
        for status, answer in operation["responses"].items()
        if status.isdigit() and int(status) < 400
    }
    for status, answer in answers.items():
        names = {"Location"} if status == "201" else set[str]()
        names |= {"ETag"} if "304" in answers or versioned else set()
        names |= {"Idempotent-Replayed"} if keyed else set()
        names |= set(answer.get("headers", ()))
        answer["headers"] = {name: {"schema": {"type": "string"}} for name in sorted(names)}
    by_status: dict[int, dict[str, type[AppError]]] = {}
    for kind in failures(rule, method, view):
        by_status.setdefault(kind.status, {})[kind.code] = kind
    for status, kinds in sorted(by_status.items()):
        answers[str(status)] = _failure(status, kinds)
    for answer in answers.values():
        answer.setdefault("headers", {})["X-Request-Id"] = REQUEST_ID_HEADER
    operation["responses"] = answers


def _rights(view: Callable[..., Any], method: str) -> list[str]:
    """Return what the document says of who may call a view, beyond who is signed in."""
    access = guards.access(view)
    if where := guards.condition(view):
        return [f"`{where.parameter}={where.value}` needs the permission `{where.permission}`."]
    if access == guards.PUBLIC:
        return []
    scopes = guards.scopes_for(view, method)
    needed = " or ".join(f"`{scope}`" for scope in scopes)
    if guards.is_permission(access):
        return [f"Needs the permission `{access}`{'' if scopes else ', and no API key will do'}."]
    return [f"An API key needs the scope {needed}." if scopes else "Not for API keys."]


def _failure(status: int, kinds: dict[str, type[AppError]]) -> dict[str, Any]:
    examples = {
        code: {
            "value": {"error": {"code": code, "message": kind.message, "request_id": "3f1c9d20"}}
        }
        for code, kind in kinds.items()
    }
    names = ", ".join(f"`{code}`" for code in kinds)
    answer: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {names}",
        "content": {
            errors.JSON: {"schema": {"$ref": "#/components/schemas/Error"}, "examples": examples},
            errors.PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
    headers = {name for kind in kinds.values() for name in kind.headers}
    if headers:
        answer["headers"] = {name: {"schema": {"type": "string"}} for name in sorted(headers)}
    return answer


def path_of(rule: str) -> str:
    """Return a Flask rule as an OpenAPI path: `/users/<uuid:id>` is `/users/{id}`."""
    parts = [
        "{" + part[1:-1].rpartition(":")[2] + "}" if part.startswith("<") else part
        for part in rule.split("/")
    ]
    return "/".join(parts)
