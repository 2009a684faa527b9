"""What an operator sees of one run of real programs: its traces at a collector, and its log lines.

One server and one worker answer good, bad and hostile requests, and are stopped; the tests look at
what came of that.
"""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app import configure, create_app
from app.platform.log_lines import LINE_BYTES
from app.platform.settings import VERSION, Settings
from app.platform.settings.values import LEVELS
from tests import people, shop, tracing
from tests.client import new_key
from tests.collector import Span, collecting
from tests.database import Databases, pool_on, variables
from tests.people import TestUser
from tests.server.serving import Server, read_all, serving, wait_until
from tests.server.visiting import Visitor
from tests.worker.working import working

ME, ORDERS, FORGOT = "/api/v1/users/me", "/api/v1/orders", "/api/v1/auth/password/forgot"
TRACE, CALLER = "4b" * 16, "0f" * 8
SENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
UNSAMPLED = "1" * 32
# Line breaks of all kinds, an escape sequence, a change of direction, and what isn't UTF-8.
HOSTILE = 'x\r\n\x85\u2028\u2029\x1b[31m\x9b31m\u202e{"event":"forged"}\x00\x7f'
RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /\xff\xfe\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%0a%1b%5b31m%e2%80%a8" + b"%0d" * 2_600 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"FORGED\x1b / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"LONGLONGLONGLONGLONG /api HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Bad\x0b: " + b"\xff" * 4_000 + b"\r\n\r\n",
    b"GET /api/v1/users HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: " + b"r" * 8_000
    + b"\r\ntraceparent: " + b"0" * 8_000 + b"\r\nUser-Agent: \x1b[31m\xe2\x80\xa8\r\n\r\n",
    b"POST /api/v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /api/v1/users HTTP/1.1\r\nHost: evil.example\x1b\r\nContent-Length: 0\r\n\r\n",
]  # fmt: skip

MAIL = "mail.deliver"
OF_REQUESTS = {"request", "transfer", "place_order", "pay_order"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was done, and what was seen of it."""

    user: TestUser
    order_id: str
    spans: list[Span]
    server: list[dict[str, Any]]
    worker: list[dict[str, Any]]
    raw: str
    errors: str

    def trace(self, trace_id: str = TRACE) -> list[Span]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span["trace"] == trace_id]

    def span(self, name: str) -> Span:
        """Return the one span of a name in the trace that the client began."""
        (found,) = [span for span in self.trace() if span["name"] == name]
        return found

    def below(self, parent: Span) -> list[str]:
        """Return the names of a span's children."""
        return [span["name"] for span in self.spans if span["parent"] == parent["id"]]


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return the lines of a log; splitting at line feeds alone, as a collector does."""
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture(scope="module")
def run(
    databases: Databases, settings: Settings, pool: None, tmp_path_factory: Any
) -> Iterator[Run]:
    folder: Path = tmp_path_factory.mktemp("run")
    with databases.fresh() as fresh, pool_on(fresh, instead_of=settings), ExitStack() as running:
        app = create_app(fresh)
        user = people.make_user(app, credits=1_000, name="Canary Name", verified=True)
        sku = shop.make_product(price=250).sku
        code = shop.make_discount().code
        collector = running.enter_context(collecting(folder))
        given = variables(fresh) | {"APP_AUTH_ISSUER": fresh.auth_issuer}
        given |= {"APP_OTLP_ENDPOINT": collector.address, "APP_LOG_SLOW_QUERY_MS": "1"}
        given |= tracing.variables()
        server = running.enter_context(serving(folder, app=None, **given))
        worker = running.enter_context(working(fresh, folder, **given))
        visitor = Visitor(server.port)
        order_id = buy(visitor, user, sku, code)
        visitor.post(FORGOT, {"email": user.email}, headers=SENT)
        be_a_nuisance(visitor, user)
        visitor.close()
        for data in RAW:
            shout(server, data)
        wait_until(lambda: [job for job in worker.lines("job_done") if job["task"] == MAIL])
        server.stop()
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(20)
        yield Run(
            user=user,
            order_id=order_id,
            spans=collector.spans(),
            server=lines_of(server.log.read_text()),
            worker=lines_of(worker.log.read_text()),
            raw=server.log.read_text() + worker.log.read_text(),
            errors=server.errors.read_text(),
        )
    configure(settings)


def buy(visitor: Visitor, user: TestUser, sku: str, code: str) -> str:
    """Place and pay an order, both in the trace that the client has begun."""
    placed = visitor.post(
        ORDERS,
        {"items": [{"sku": sku, "quantity": 2}], "discount_code": code},
        token=user.token,
        headers=SENT | {"Idempotency-Key": new_key()},
    )
    order_id: str = placed.json["id"]
    paid = visitor.post(
        f"{ORDERS}/{order_id}/pay?", token=user.token, headers=SENT | {"Idempotency-Key": new_key()}
    )
    assert (placed.status, paid.status) == (201, 200), (placed.body, paid.body)
    return order_id


def be_a_nuisance(visitor: Visitor, user: TestUser) -> None:
    """Send requests of all kinds: refused, malformed, with others' and with broken traces."""
    visitor.get(ME, token=user.token)
    visitor.get("/api/v1/nothing?canary-query=1", headers={"traceparent": "00-not-a-trace-01"})
    visitor.get(ME, token=user.token, headers={"traceparent": f"00-{UNSAMPLED}-{CALLER}-00"})
    visitor.post(
        "/api/v1/credits/transfers",
        {"to_user_id": str(user.id), "amount": 5},
        token=user.token,
        headers={"Idempotency-Key": new_key()},
    )
    visitor.post("/api/v1/users", {"email": HOSTILE, "name": HOSTILE, "password": HOSTILE})
    visitor.post("/api/v1/auth/login", {"email": f"canary\u2028{'y' * 300}@example.com"})
    visitor.post("/api/v1/users", {"name": "z" * 90_000})
    visitor.get("/health")
    visitor.get("/ready")


def shout(server: Server, data: bytes) -> None:
    """Send bytes and nothing after them, and wait until the server has closed."""
    # Some are refused, and hung up on, before all of it was sent.
    with server.connect() as client, suppress(OSError):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        read_all(client)


def test_one_trace_holds_the_requests_their_steps_their_statements_and_the_job(run: Run) -> None:
    names = [span["name"] for span in run.trace()]
    assert {"POST /api/v1/orders", "POST /api/v1/orders/<uuid:order_id>/pay"} < set(names)
    placing = run.span("POST /api/v1/orders")
    paying = run.span("POST /api/v1/orders/<uuid:order_id>/pay")
    asking = run.span("POST /api/v1/auth/password/forgot")
    job = run.span("job mail.deliver")
    assert [span["parent"] for span in (placing, paying, asking)] == [CALLER] * 3
    assert "place_order" in run.below(placing)
    steps = {"price_items", "find_discount", "redeem_discount", "record_event"}
    assert steps < set(run.below(run.span("place_order")))
    assert run.below(run.span("price_items")) == ["SELECT products"]
    assert "pay_order" in run.below(paying)
    steps = {"lock_order", "transfer", "change_order", "record_event"}
    assert steps <= set(run.below(run.span("pay_order")))
    assert run.below(run.span("transfer")) == ["SELECT post_transfer_v3"]
    # It goes on where its event was left, in another process, and its statements belong to it.
    assert job["parent"] == asking["id"]
    assert "UPDATE mails" in run.below(job)
    # What waits for the disk, or for a replica, is seen as well.
    assert run.below(placing).count("COMMIT") == run.below(paying).count("COMMIT") == 1
    assert asking["begun"] < job["begun"]


def test_a_span_says_what_was_asked_by_whom_and_how_it_ended(run: Run) -> None:
    span = run.span("POST /api/v1/orders")
    assert span["facts"].pop("bursar.request_id")
    assert span["facts"] == {
        "http.request.method": "POST",
        "http.route": "/api/v1/orders",
        "http.response.status_code": 201,
        "enduser.id": str(run.user.id),
    }
    assert (span["kind"], span["failed"]) == (2, False)
    assert span["resource"]["service.name"] == "bursar"
    assert span["resource"]["service.version"] == VERSION
    assert span["ended"] > span["begun"]
    assert run.span("job mail.deliver")["facts"]["bursar.task"] == "mail.deliver"
    assert run.span("job mail.deliver")["kind"] == 5


def test_the_read_of_every_request_is_seen_without_its_values(run: Run) -> None:
    (request,) = [
        span for span in run.spans if span["name"] == f"GET {ME}" and span["trace"] != TRACE
    ]
    assert (request["parent"], run.below(request)) == ("", ["SELECT login_sessions"])
    (read,) = [span for span in run.spans if span["parent"] == request["id"]]
    assert read["facts"]["db.system"] == "postgresql"
    assert "%(" in read["facts"]["db.statement"]
    assert str(run.user.id) not in str(read)


def test_a_refused_step_is_told_by_its_type(run: Run) -> None:
    (request,) = [span for span in run.spans if span["name"] == "POST /api/v1/credits/transfers"]
    failed = [span for span in run.spans if span["trace"] == request["trace"] and span["failed"]]
    assert not request["failed"]
    assert {span["facts"]["error.type"] for span in failed if span["name"] == "transfer"} == {
        "SelfTransfer"
    }


def test_a_broken_trace_counts_as_none_and_one_that_nobody_samples_is_not_sent(run: Run) -> None:
    known = {span["id"] for span in run.spans}
    assert {span["parent"] for span in run.spans} - known == {"", CALLER}
    assert run.trace(UNSAMPLED) == []
    # It is the caller's all the same, and its lines are found by it.
    assert [line["event"] for line in run.server if line.get("trace_id") == UNSAMPLED] != []


def test_what_goes_on_all_the_time_makes_no_traces(run: Run) -> None:
    beginnings = {span["name"] for span in run.spans if span["parent"] == ""}
    assert not [name for name in beginnings if not name.startswith(("GET", "POST", "OTHER", "job"))]
    assert not [
        span for span in run.spans if span["facts"].get("http.route") in ("/health", "/ready")
    ]
    assert beginnings.isdisjoint({"job orders.expire", "job jobs.rescue"})


def test_no_personal_data_is_in_any_span(run: Run) -> None:
    sent = json.dumps(run.spans)
    for canary in (run.user.email, "canary", "Canary Name", "127.0.0.1", "example.com"):
        assert canary not in sent
    assert {word for span in run.spans for word in span["words"]} == {""}


def test_every_line_of_the_run_is_whole_json_and_says_whose_it_is(run: Run) -> None:
    assert run.errors == ""
    assert len(run.server) > 30
    assert len(run.worker) > 5
    for line in [*run.server, *run.worker]:
        assert datetime.fromisoformat(line["timestamp"])
        assert line["timestamp"].endswith("Z")
        assert line["level"] in LEVELS
        assert line["event"]
        assert line["logger"]
        assert (line["service"], line["version"]) == ("bursar", VERSION)
        assert "request_id" in line or line["event"] not in OF_REQUESTS
        probe = line.get("route") in ("/health", "/ready")
        assert "trace_id" in line or probe or line["event"] not in OF_REQUESTS
    assert run.server[-1]["logger"] == "gunicorn.error"
    assert "worker_started" in {line["event"] for line in run.worker}
    assert run.worker[-1]["event"] == "worker_stopped"


def test_no_client_can_forge_or_swell_a_line(run: Run) -> None:
    assert run.raw.isascii()
    assert not set(run.raw) & {chr(code) for code in [*range(10), *range(11, 32), 127]}
    assert max(map(len, run.raw.split("\n"))) <= LINE_BYTES
    assert "forged" not in {line["event"] for line in run.server}
    # Nothing that a client has typed is there, but for an id that is well-formed.
    for word in ("[31m", "zzzz", "yyyy", "rrrr", "canary", run.user.email):
        assert word not in run.raw


def test_lines_of_a_request_and_of_its_job_name_the_trace(run: Run) -> None:
    events = {line["event"] for line in run.server if line.get("trace_id") == TRACE}
    assert {"request", "place_order", "pay_order", "transfer"} <= events
    (done,) = [line for line in run.worker if line.get("task") == MAIL]
    assert (done["event"], done["trace_id"]) == ("job_done", TRACE)
    # Nothing is left of it in what comes after.
    stops = [line for line in run.server if line["event"].startswith("Handling signal")]
    assert stops
    assert not [line for line in stops if "trace_id" in line or "request_id" in line]


def test_a_slow_statement_is_named_without_its_values(run: Run) -> None:
    slow = [line for line in run.server if line["event"] == "slow_query"]
    named = {line["query"] for line in slow}
    assert "SELECT post_transfer_v3" in named
    (post,) = [line for line in slow if line["query"] == "SELECT post_transfer_v3"
               and line.get("trace_id") == TRACE]  # fmt: skip
    assert post["level"] == "warning"
    assert post["duration_ms"] >= 1
    assert post["request_id"]
    assert "%(amount)s" in post["text"]
    assert str(run.user.id) not in str(slow)
    # The worker's too.
    assert {line["event"] for line in run.worker} >= {"slow_query", "worker_started"}
