"""What every request and answer gets, seen through a small WSGI application."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs
from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Response

from app.platform import errors, metrics
from app.platform.edge import Edge
from app.platform.settings import load_settings

Environ = dict[str, Any]


def settings_with(**variables: str) -> Any:
    given = {
        "APP_ENV": "test",
        "APP_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/nothing",
        **variables,
    }
    return load_settings(given)


def client(view: Callable[[Environ], Response], **variables: str) -> Client:
    """Return a client of a view behind the edge."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        return view(environ)(environ, start_response)

    return Client(Edge(application, settings=settings_with(**variables)))


def told(environ: Environ) -> Response:
    """A view that says what it knows of the request."""
    refusal = environ.get("bursar.body_error")
    facts = {
        "address": environ["bursar.address"],
        "remote": environ.get("REMOTE_ADDR"),
        "scheme": environ["wsgi.url_scheme"],
        "id": environ["bursar.request_id"],
        "logged": get_contextvars().get("request_id"),
        "body": environ["wsgi.input"].read().decode(),
        "length": environ["CONTENT_LENGTH"],
        "refusal": refusal and refusal.code,
    }
    return Response(errors.orjson.dumps(facts), content_type="application/json")


def broken(environ: Environ) -> Response:
    raise ValueError("canary-message")


def test_a_request_id_that_is_well_formed_is_kept() -> None:
    sent = "aZ9._-" + "x" * 122
    answer = client(told).get("/", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == sent
    assert (answer.json["id"], answer.json["logged"]) == (sent, sent)


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a/b", "ä", "<script>"])
def test_any_other_request_id_is_replaced(sent: str) -> None:
    answer = client(told).get("/", headers={"X-Request-Id": sent})
    made = answer.headers["X-Request-Id"]
    assert made != sent
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", made)
    assert answer.json["id"] == made


def test_every_answer_has_the_security_headers() -> None:
    for view, status in ((told, 200), (broken, 500)):
        answer = client(view).get("/")
        assert answer.status_code == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Content-Security-Policy"] == policy
        assert "Strict-Transport-Security" not in answer.headers


def test_transport_security_is_asked_for_when_the_public_address_has_it() -> None:
    answer = client(told, APP_PUBLIC_URL="https://bursar.example").get(
        "/", base_url="https://bursar.example"
    )
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_view_may_set_its_own_policy() -> None:
    def page(environ: Environ) -> Response:
        return Response("page", headers={"Content-Security-Policy": "default-src 'self'"})

    assert client(page).get("/").headers.get_all("Content-Security-Policy") == [
        "default-src 'self'"
    ]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("bursar.example", 200),
        ("bursar.example:8443", 200),
        ("BURSAR.example", 200),
        ("a.shop.example", 200),
        ("[::1]:3000", 200),
        ("evil.example", 400),
        ("bursar.example.evil.example", 400),
        ("bursar.example@evil.example", 400),
        ("bursar.example, evil.example", 400),
        ("bursar.example/x", 400),
        ("", 400),
    ],
)
def test_only_trusted_hosts_are_answered(host: str, status: int) -> None:
    trusted = "bursar.example,.shop.example,[::1]"
    answer = client(told, APP_SERVER_TRUSTED_HOSTS=trusted).get("/", headers={"Host": host})
    assert answer.status_code == status
    if status == 400:
        assert answer.json["error"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize("path", ["/health", "/healthz", "/ready", "/metrics"])
def test_probes_come_under_any_name(path: str) -> None:
    assert client(told).get(path, headers={"Host": "10.0.0.7:3000"}).status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        ("0", "1.1.1.1", "127.0.0.1"),
        ("1", "1.1.1.1", "1.1.1.1"),
        # Everything left of what the trusted proxies wrote is the client's own claim.
        ("1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("2", "6.6.6.6, 1.1.1.1, 2.2.2.2", "1.1.1.1"),
        # Fewer entries than proxies: somebody went around one.
        ("2", "6.6.6.6", "127.0.0.1"),
        ("1", "", "127.0.0.1"),
        ("1", "nonsense", "127.0.0.1"),
        ("1", "1.1.1.1:5678", "1.1.1.1"),
        ("1", "[2001:db8::1]:5678", "2001:db8::1"),
        ("1", "2001:db8::1", "2001:db8::1"),
        ("1", "::ffff:1.2.3.4", "1.2.3.4"),
    ],
)
def test_the_address_is_what_trusted_proxies_saw(
    proxies: str, forwarded: str, address: str
) -> None:
    asked = client(told, APP_SERVER_TRUSTED_PROXIES=proxies)
    answer = asked.get(
        "/",
        headers={"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"},
        environ_base={"REMOTE_ADDR": "127.0.0.1"},
    )
    assert (answer.json["address"], answer.json["remote"]) == (address, address)
    assert answer.json["scheme"] == ("http" if proxies == "0" else "https")


def test_on_a_unix_socket_there_is_no_address() -> None:
    answer = client(told).get("/", environ_base={"REMOTE_ADDR": ""})
    assert answer.json["address"] is None


def test_a_body_is_there_as_a_whole() -> None:
    answer = client(told).post("/", data="hello", content_type="text/plain")
    assert (answer.json["body"], answer.json["length"]) == ("hello", "5")
    assert answer.json["refusal"] is None


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"CONTENT_LENGTH": str((1 << 20) + 1)}, "PAYLOAD_TOO_LARGE"),
        ({"CONTENT_LENGTH": "9"}, "BAD_REQUEST"),
        ({"CONTENT_LENGTH": "-1"}, "BAD_REQUEST"),
        ({"CONTENT_LENGTH": "", "CONTENT_TYPE": "application/json"}, "LENGTH_REQUIRED"),
    ],
)
def test_a_bad_body_is_left_for_the_application_to_refuse(
    environ: dict[str, str], code: str
) -> None:
    answer = client(told).post("/", data="hello", environ_overrides=environ)
    assert answer.status_code == 200
    assert answer.json["refusal"] == code
    assert (answer.json["body"], answer.json["length"]) == ("", "0")


def test_an_error_that_nobody_handled_is_one_line_and_an_answer_in_json() -> None:
    with capture_logs() as lines:
        answer = client(broken).get("/")
        answer.close()
    assert answer.status_code == 500
    assert answer.json["error"]["code"] == "INTERNAL_ERROR"
    assert answer.json["error"]["request_id"] == answer.headers["X-Request-Id"]
    assert "canary" not in answer.text
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["unexpected_error"]


def test_who_prefers_problem_details_gets_them() -> None:
    answer = client(broken).get("/", headers={"Accept": "application/problem+json"})
    assert answer.content_type == "application/problem+json"
    assert (answer.json["code"], answer.json["status"]) == ("INTERNAL_ERROR", 500)


def test_a_refusal_of_the_edge_can_be_read_by_an_allowed_page_only() -> None:
    asked = client(broken, APP_CORS_ORIGINS="https://shop.example")
    allowed = asked.get("/", headers={"Origin": "https://shop.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "X-Request-Id" in allowed.headers["Access-Control-Expose-Headers"]
    other = asked.get("/", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_head_request_gets_a_refusal_without_a_body() -> None:
    answer = client(broken).head("/")
    assert (answer.status_code, answer.data) == (500, b"")
    assert int(answer.headers["Content-Length"]) > 0


def test_an_error_in_closing_does_not_spoil_the_answer() -> None:
    def view(environ: Environ) -> Response:
        response = Response("fine")
        response.call_on_close(lambda: 1 // 0)
        return response

    with capture_logs() as lines:
        with client(view).get("/") as answer:
            assert (answer.status_code, answer.text) == (200, "fine")
        assert [line["event"] for line in lines] == ["unexpected_error", "request"]


def test_the_access_line_names_the_route_and_nobodys_data() -> None:
    def view(environ: Environ) -> Response:
        environ["bursar.route"] = "/users/<uuid:user_id>"
        environ["bursar.user_id"] = "a-user"
        return Response("fine")

    with (
        capture_logs() as lines,
        client(view).get("/users/canary-path?q=canary-query") as answer,
    ):
        assert answer.text == "fine"
    (line,) = lines
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "route": "/users/<uuid:user_id>",
        "status": 200,
        "user_id": "a-user",
    }


def test_a_path_without_a_route_is_shown_in_development_only(tmp_path: Any) -> None:
    for environment, shown in (("development", "/nothing"), ("test", None)):
        asked = client(told, APP_ENV=environment, APP_DATA_DIR=str(tmp_path))
        with capture_logs() as lines, asked.get("/nothing"):
            pass
        assert lines[0].get("path") == shown


def test_a_probe_is_logged_only_when_it_fails() -> None:
    def failing(environ: Environ) -> Response:
        return Response(status=503)

    for view, level in ((told, "debug"), (failing, "info")):
        with capture_logs() as lines, client(view).get("/ready"):
            pass
        assert [line["log_level"] for line in lines] == [level]


def test_unknown_methods_count_as_one() -> None:
    for method in ("BREW", "PROPFIND"):
        client(told).open("/", method=method).close()
    text = metrics.exposition().decode()
    assert 'method="OTHER",route="none"' in text
    assert "BREW" not in text


def test_what_writes_around_the_edge_is_refused() -> None:
    def old_way(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])(b"around")
        return []

    edge = Edge(old_way, settings=settings_with())
    assert Client(edge).get("/").status_code == 500


def test_an_exit_passes_but_leaves_its_access_line() -> None:
    class Killed(BaseException):
        pass

    def view(environ: Environ) -> Response:
        raise Killed

    edge = Edge(lambda environ, start: view(environ)(environ, start), settings=settings_with())
    with capture_logs() as lines, pytest.raises(Killed):
        edge(EnvironBuilder("/").get_environ(), lambda *_: None)
    assert lines[-1]["aborted"] is True
    assert "request_id" not in get_contextvars()
