"""The OpenAPI document is valid, whole, and true of what the service does."""

import importlib
import pkgutil
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from marshmallow import Schema, fields
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import CHECKS, load_all_checks

import app as application
from app.platform import guards
from app.platform.fields import Compiled, Text, Time
from app.platform.http import dumps
from app.platform.openapi import failures, operations, path_of
from tests.client import Client
from tests.people import TestUser
from tests.tracing import unfollowed

load_all_checks()


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    """The document as a client gets it."""
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=600"
    served: dict[str, Any] = answer.json
    return served


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_the_document_is_cached_by_its_etag(client: Client) -> None:
    first = client.get("/openapi.json")
    again = client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_every_operation_of_the_api_is_in_the_document(
    app: Flask, document: dict[str, Any]
) -> None:
    for rule, method, view in operations(app):
        if not rule.startswith("/api/"):
            continue
        operation = document["paths"][path_of(rule)][method]
        assert operation["summary"], rule
        assert operation["tags"], rule
        wanted: list[Any] = [] if guards.access(view) == guards.PUBLIC else [{"bearer": []}]
        if rule in ("/api/v1/auth/refresh", "/api/v1/auth/logout"):
            wanted += [{"cookie": []}, {}]
        if (rule, method) == ("/api/v1/products", "get"):
            wanted = [{"bearer": []}, {}]
        assert operation["security"] == wanted, rule
        listed = {status for status in operation["responses"] if int(status) >= 400}
        assert listed == {str(kind.status) for kind in failures(rule, method, view)}, rule
        for status in listed:
            (example, *_) = operation["responses"][status]["content"]["application/json"][
                "examples"
            ].values()
            assert example["value"]["error"]["code"]


def test_no_foreign_host_stands_in_the_page_or_its_document(client: Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert b"http" not in page.data
    for name in ("start.js", "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
        assert client.get(f"/docs/{name}").status_code == 200
    assert client.get("/docs/other.js").status_code == 404


def compiled_schemas() -> list[Compiled]:
    """Return every compiled schema of the code base."""
    found = []
    for module in pkgutil.walk_packages(application.__path__, "app."):
        loaded = importlib.import_module(module.name)
        found += [value for value in vars(loaded).values() if isinstance(value, Compiled)]
    return found


def sample(field: fields.Field[Any]) -> Any:
    """Return a value that a row could hold for this field."""
    if isinstance(field, fields.List):
        return [sample(field.inner), sample(field.inner)]
    if isinstance(field, Time):
        return datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    if isinstance(field, fields.UUID):
        return uuid4()
    if isinstance(field, fields.Boolean):
        return True
    if isinstance(field, fields.Integer):
        return 2**53 - 1
    if isinstance(field, fields.Dict):
        return {"amount": 5, "text": "é"}
    return 'é\u2028"<'


def test_compiled_answers_are_what_marshmallow_would_dump() -> None:
    schemas = compiled_schemas()
    assert len(schemas) >= 5
    for each in schemas:
        row = {name: sample(field) for name, field in each.schema.dump_fields.items()}
        assert orjson.loads(dumps(each.one(row))) == each.schema.dump(row), each.schema
        empty = dict.fromkeys(row)
        nullable = {
            name: None for name, field in each.schema.dump_fields.items() if field.allow_none
        }
        assert orjson.loads(dumps(each.one(empty | nullable))) == each.schema.dump(empty)


def test_a_schema_that_orjson_would_write_differently_cannot_be_compiled() -> None:
    class Odd(Schema):
        price = fields.Decimal()

    class Renamed(Schema):
        name = Text(1, 2, data_key="Name")

    for odd in (Odd(), Renamed()):
        with pytest.raises(TypeError):
            Compiled(odd)


WANTED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
)


# Of the operations, so that several processes share the longest of all tests.
PARTS = 3


@unfollowed
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_whatever_is_sent_gets_an_answer_that_the_document_lists(
    app: Flask, admin: TestUser, mode: schemathesis.GenerationMode, part: int
) -> None:
    """schemathesis makes requests that fit the document, and ones that break it."""
    checks = [CHECKS.get_one(name) for name in WANTED]
    sent = {
        "Authorization": f"Bearer {admin.token}",
        "Host": "localhost",
        "Accept-Encoding": "identity",
    }
    found = schemathesis.openapi.from_wsgi("/openapi.json", app).get_all_operations()
    for operation in [each.ok() for each in found][part::PARTS]:
        parameters = [each.name for each in operation.iter_parameters() if each.name not in sent]
        if not parameters and not operation.body and mode is schemathesis.GenerationMode.NEGATIVE:
            continue  # There is nothing to break.
        cases = operation.as_strategy(generation_mode=mode)

        @given(case=cases)
        @settings(
            # What says less in its request has fewer ways to say it.
            max_examples=min(2 + len(parameters) + 4 * len(operation.body), 8),
            phases=[Phase.generate],
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def try_out(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=sent, checks=checks)

        try_out()
