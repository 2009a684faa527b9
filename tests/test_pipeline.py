"""The stages around every view: their order, and what browsers and caches rely on."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask_compress import flask_compress

from app import configure, create_app
from app.platform.cors import EXPOSED_HEADERS
from app.platform.deadlines import RequestDeadline
from app.platform.security_headers import SECURITY_HEADERS
from app.platform.settings import Settings
from tests.client import Client
from tests.people import TestUser

PAGE = "https://shop.example"
STRANGER = "https://evil.example"


@pytest.fixture
def shop(settings: Settings, app: Flask) -> Iterator[Flask]:
    """The application as one that pages of a shop may call."""
    yield create_app(replace(settings, cors_origins=(PAGE,)))
    configure(settings)


def test_the_stages_run_in_their_order(shop: Flask) -> None:
    """In: the guard decides before the query is looked at. Out: headers are added last."""
    before = [stage.__qualname__ for stage in shop.before_request_funcs[None]]
    assert [name.split(".")[0] for name in before] == ["install", "_refuse_unknown_query"]
    after = [stage.__qualname__ for stage in shop.after_request_funcs[None]]
    assert [name.split(".")[0] for name in after] == [
        "install",
        "make_after_request_function",
        "install",
    ]
    assert type(shop.wsgi_app).__name__ == "Edge"


def test_a_preflight_needs_no_token(shop: Flask) -> None:
    answer = Client(shop).request(
        "OPTIONS",
        "/api/v1/credits/transfers",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, idempotency-key, x-csrf-token",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert set(allowed) == {"authorization", "idempotency-key", "x-csrf-token"}
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_a_strange_page_is_allowed_nothing(shop: Flask) -> None:
    for origin in (STRANGER, "https://shop.example.evil.example", "null", PAGE + ":8443"):
        for method in ("GET", "OPTIONS"):
            answer = Client(shop).request(
                method,
                "/api/v1/credits/balance",
                headers={"Origin": origin, "Access-Control-Request-Method": "GET"},
            )
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_refusal_can_be_read_by_the_page(
    shop: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the guard, of the router, of the edge, and one that ran out of time."""
    client, headers = Client(shop), {"Origin": PAGE}

    def late() -> None:
        raise RequestDeadline

    answers = [
        client.get("/api/v1/users/me", headers=headers),
        client.get("/api/v1/nothing", headers=headers),
        client.delete("/api/v1/credits/balance", headers=headers),
        client.get("/api/v1/users/me", headers=headers | {"Host": "evil.example"}),
    ]
    monkeypatch.setitem(shop.before_request_funcs, None, [late])
    answers.append(client.get("/api/v1/users/me", headers=headers))
    assert [answer.status_code for answer in answers] == [401, 404, 405, 400, 503]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed == set(EXPOSED_HEADERS)
        assert "Origin" in answer.headers["Vary"]
        for name, value in SECURITY_HEADERS:
            assert answer.headers[name] == value
        assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("accepted", "algorithm"),
    [
        ("zstd, br, gzip", "zstd"),
        ("br, gzip", "br"),
        ("gzip", "gzip"),
        ("identity", None),
        ("gzip;q=0", None),
    ],
)
def test_long_answers_are_compressed_on_request(
    client: Client, accepted: str, algorithm: str | None
) -> None:
    answer = client.get("/openapi.json", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == algorithm
    assert "Accept-Encoding" in answer.headers["Vary"]


def test_short_answers_and_tokens_are_not_compressed(
    client: Client, make_user: Callable[..., TestUser]
) -> None:
    accepts = {"Accept-Encoding": "zstd, br, gzip"}
    assert "Content-Encoding" not in client.get("/health", headers=accepts).headers
    user = make_user()
    sign_in = client.post(
        "/api/v1/auth/login",
        json={"email": user.email, "password": user.password},
        headers=accepts,
    )
    assert sign_in.status_code == 200
    assert "Content-Encoding" not in sign_in.headers
    assert sign_in.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/docs/swagger-ui-bundle.js", "/openapi.json"])
@pytest.mark.parametrize("algorithm", ["zstd", "br", "gzip"])
def test_what_never_changes_is_compressed_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, algorithm: str, path: str
) -> None:
    """Seen failing with the cache emptied at each call."""
    compress, compressed = flask_compress._compress_data, []

    def noting(app: Flask, data: bytes, name: str) -> bytes:
        compressed.append(len(data))
        return compress(app, data, name)

    monkeypatch.setattr(flask_compress, "_compress_data", noting)
    client = Client(create_app(settings))
    accepts = {"Accept-Encoding": algorithm}
    head = client.request("HEAD", path, headers=accepts)
    answers = [client.get(path, headers=accepts) for _ in range(3)]
    assert len(compressed) == 1
    assert all(answer.headers["Content-Encoding"] == algorithm for answer in (head, *answers))
    assert all(answer.data == answers[0].data != b"" for answer in answers)
    assert len(client.get(path, headers={"Accept-Encoding": "identity"}).data) == compressed[0]
    again = client.get(path, headers=accepts | {"If-None-Match": head.headers["ETag"]})
    assert (again.status_code, len(compressed)) == (304, 1)
    assert client.get("/docs/swagger-ui.css", headers=accepts).data != answers[0].data


def test_a_compressed_answer_is_recognised_by_its_tag(client: Client) -> None:
    """Compression adds its name to the tag; the client sends that back."""
    accepts = {"Accept-Encoding": "br"}
    first = client.get("/openapi.json", headers=accepts)
    assert first.headers["ETag"].endswith(':br"')
    again = client.get("/openapi.json", headers=accepts | {"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
