"""What every operation refuses, whichever it is: each refusal is tried on all of them."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from marshmallow import ValidationError

from app import configure, create_app
from app.mail import tokens as mail_tokens
from app.mail.values import Kind
from app.platform import guards, http
from app.platform.deadlines import BodyDeadline, RequestDeadline
from app.platform.openapi import operations
from app.platform.settings import Settings
from tests.client import Client
from tests.database import pool_on
from tests.people import TestUser
from tests.platform.refusing import Operation, assert_error, ids_of_things, operations_on
from tests.tracing import unfollowed

pytestmark = unfollowed


@pytest.fixture
def api(app: Flask) -> list[Operation]:
    """Every documented operation: method, path with ids of nobody, view."""
    return operations_on(app, {})


def is_versioned(path: str) -> bool:
    """Tell whether a path belongs to the API proper."""
    return path.startswith("/api/")


def takes_body(view: Callable[..., Any]) -> bool:
    """Tell whether an operation reads a JSON body."""
    return any(parameter["in"] == "json" for parameter in http.parameters_of(view))


def test_a_foreign_host_is_a_bad_request(client: Client, api: list[Operation]) -> None:
    for method, path, _ in api:
        answer = client.request(method, path, headers={"Host": "evil.example"})
        assert_error(answer, 400, "BAD_REQUEST")


def test_without_a_token_nobody_is_signed_in(client: Client, api: list[Operation]) -> None:
    for method, path, view in api:
        if guards.access(view) != guards.PUBLIC:
            body = {"json": {}} if takes_body(view) else {}
            answer = client.request(method, path, **body)
            assert_error(answer, 401, "UNAUTHENTICATED")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_without_the_permission_an_operation_is_forbidden_before_anything_is_read(
    client: Client, api: list[Operation], make_user: Callable[..., TestUser]
) -> None:
    token = make_user().token
    for method, path, view in api:
        if guards.is_permission(guards.access(view)):
            answer = client.request(method, path + "?unknown=1", token=token, data=b"{")
            assert_error(answer, 403, "FORBIDDEN")


def test_an_unknown_query_parameter_is_refused(app: Flask, client: Client, admin: TestUser) -> None:
    there = ids_of_things(app, admin)
    for method, path, view in operations_on(app, there):
        if not is_versioned(path):
            continue
        body = {"json": {}} if takes_body(view) else {}
        answer = client.request(method, path + "?unknown=1", token=admin.token, **body)
        assert_error(answer, 422, "VALIDATION_ERROR")
        assert "unknown" in answer.json["error"]["details"] or takes_body(view)


def test_a_path_with_a_malformed_id_is_not_found_even_without_a_token(client: Client) -> None:
    for path in ("/api/v1/users/1", "/api/v1/credits/transfers/x", "/api/v1/nothing"):
        assert_error(client.get(path), 404, "NOT_FOUND")


def test_ids_of_nobody_are_not_found(client: Client, api: list[Operation], admin: TestUser) -> None:
    for method, path, _ in api:
        if any(len(part) == 36 for part in path.split("/")):
            assert_error(client.request(method, path, token=admin.token), 404, "NOT_FOUND")


class Dripping(BytesIO):
    """A body of which nothing arrives before the deadline strikes."""

    def read(self, size: int | None = -1) -> bytes:
        """End as the deadline's sweep ends a waiting request."""
        raise BodyDeadline


BAD_BODIES: list[tuple[int, str, dict[str, Any]]] = [
    (400, "BAD_REQUEST", {"data": b"{", "content_type": "application/json"}),
    (400, "BAD_REQUEST", {"data": b'{"a": 1, "a": 2}', "content_type": "application/json"}),
    (400, "BAD_REQUEST", {"data": b'{"a": "\\u0000"}', "content_type": "application/json"}),
    (400, "BAD_REQUEST", {"data": b"[" * 100_000, "content_type": "application/json"}),
    (413, "PAYLOAD_TOO_LARGE", {"data": b" " * 1_048_577, "content_type": "application/json"}),
    (415, "UNSUPPORTED_MEDIA_TYPE", {"data": b"a=1", "content_type": "text/plain"}),
    (422, "VALIDATION_ERROR", {"json": {"unknown": 1}}),
    (422, "VALIDATION_ERROR", {"json": [1]}),
    (
        408,
        "REQUEST_TIMEOUT",
        {"input_stream": Dripping(), "content_length": 9, "content_type": "application/json"},
    ),
    (
        411,
        "LENGTH_REQUIRED",
        {"content_type": "application/json", "environ_overrides": {"CONTENT_LENGTH": ""}},
    ),
]


@pytest.mark.parametrize(("status", "code", "body"), BAD_BODIES)
def test_a_bad_body_is_refused(
    app: Flask,
    client: Client,
    admin: TestUser,
    status: int,
    code: str,
    body: dict[str, Any],
) -> None:
    there = ids_of_things(app, admin)
    for method, path, view in operations_on(app, there):
        # A DELETE needs no length, whatever type the client says its no body has.
        if takes_body(view) and (method, status) != ("DELETE", 411):
            assert_error(client.request(method, path, token=admin.token, **body), status, code)


def test_while_the_database_is_away_everything_is_unavailable(
    app: Flask, api: list[Operation], admin: TestUser, settings: Settings
) -> None:
    tokens = Client(app).post(
        "/api/v1/auth/login", json={"email": admin.email, "password": admin.password}
    )
    bodies = {
        "/api/v1/users": {"email": "a@example.org", "name": "A", "password": "a-long-password-7"},
        "/api/v1/auth/login": {"email": "a@example.org", "password": "a-long-password-7"},
        "/api/v1/auth/refresh": {"refresh_token": tokens.json["refresh_token"]},
        "/api/v1/auth/password/forgot": {"email": "a@example.org"},
        "/api/v1/auth/password/reset": {
            "token": mail_tokens.make(uuid4(), Kind.RESET),
            "new_password": "a-long-password-7",
        },
        "/api/v1/auth/email/verify": {"token": mail_tokens.make(uuid4(), Kind.VERIFY)},
        "/api/v1/auth/undo": {"token": mail_tokens.make(uuid4(), Kind.DELETION)},
    }
    away = replace(settings, database_url="postgresql+psycopg2://x:y@127.0.0.1:1/none")
    with pool_on(away, instead_of=settings):
        # The key set is remembered by those who have read it: a new process has not.
        client = Client(create_app(away))
        for method, path, view in api:
            body = {"json": bodies.get(path, {})} if takes_body(view) else {}
            answer = client.request(method, path, token=admin.token, **body)
            assert_error(answer, 503, "UNAVAILABLE")
            assert answer.headers["Retry-After"] == "1"
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
    configure(settings)


def test_a_request_that_takes_too_long_is_cut_off_and_may_be_repeated(
    app: Flask, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline's exception passes every `except Exception` and becomes one JSON error."""

    def late() -> None:
        raise RequestDeadline

    monkeypatch.setitem(app.before_request_funcs, None, [late])
    answer = client.get("/api/v1/users/me")
    assert_error(answer, 503, "TIMEOUT")
    assert answer.headers["Retry-After"] == "1"


def test_a_mistake_of_ours_says_nothing_but_its_request_id(
    app: Flask, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret words")

    monkeypatch.setitem(app.before_request_funcs, None, [broken])
    answer = client.get("/api/v1/users/me")
    assert_error(answer, 500, "INTERNAL_ERROR")
    assert b"secret" not in answer.data


def test_a_validation_error_from_anywhere_names_its_fields(
    app: Flask, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky() -> None:
        raise ValidationError({"items": {1: {"quantity": ["Too many."]}}})

    monkeypatch.setitem(app.before_request_funcs, None, [picky])
    answer = client.get("/api/v1/users/me")
    assert_error(answer, 422, "VALIDATION_ERROR")
    assert answer.json["error"]["details"] == {"items.1.quantity": ["Too many."]}


def test_a_path_with_doubled_slashes_is_another_path(client: Client) -> None:
    assert_error(client.get("/api/v1//users/me"), 404, "NOT_FOUND")


def test_every_operation_that_changes_something_reads_its_body_strictly(app: Flask) -> None:
    for rule, method, view in operations(app):
        assert method == "get" or takes_body(view), rule


def test_another_method_is_not_allowed_and_says_which_are(client: Client) -> None:
    answer = client.delete("/api/v1/credits/balance")
    assert_error(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["Allow"]


def test_errors_are_problems_for_clients_that_prefer_them(client: Client) -> None:
    """RFC 9457, with our code, request id and details beside its members."""
    for accept in ("application/problem+json", "application/json;q=0.5, application/problem+json"):
        answer = client.post("/api/v1/users", json={}, headers={"Accept": accept})
        assert answer.content_type == "application/problem+json"
        problem = answer.json
        assert problem["status"] == answer.status_code == 422
        assert problem["type"] == "about:blank"
        assert problem["title"] == "Unprocessable Entity"
        assert problem["code"] == "VALIDATION_ERROR"
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        assert set(problem["details"]) == {"email", "name", "password"}
    plain = client.post("/api/v1/users", json={}, headers={"Accept": "*/*"})
    assert plain.content_type == "application/json"


def test_a_request_id_is_kept_when_it_is_well_formed(client: Client) -> None:
    kept = client.get("/health", headers={"X-Request-Id": "Trace-1.2_3"})
    assert kept.headers["X-Request-Id"] == "Trace-1.2_3"
    for malformed in ("", "a b", "x" * 129, "a\tb", "ä"):
        answer = client.get("/health", headers={"X-Request-Id": malformed})
        assert answer.headers["X-Request-Id"] != malformed
