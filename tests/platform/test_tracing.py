"""Which trace something belongs to, and that following nobody costs next to nothing."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from structlog.contextvars import get_contextvars

from app.platform import tracing
from app.platform.settings import Settings
from app.platform.tracing import Place
from tests.client import Client
from tests.collector import Collector, collecting

TRACE, SPAN = "4b" * 16, "0f" * 8
SENT, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.mark.parametrize(
    ("sent", "sampled"),
    [
        (SENT, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        # Flags of later versions are no reason not to understand the one that we know.
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        # Nor is what a later version has to say besides.
        (f"01-{TRACE}-{SPAN}-01-more", True),
    ],
)
def test_a_traceparent_is_understood(sent: str, sampled: bool) -> None:
    assert tracing.place(sent) == Place(TRACE, SPAN, sampled)
    assert str(tracing.place(sent)) == f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "-",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0\u0661",
        f" {SENT}",
        f"{SENT}\n",
        f"{SENT},{SENT}",
        SENT * 100,
    ],
)
def test_what_is_no_traceparent_counts_as_not_sent(sent: str | None) -> None:
    assert tracing.place(sent) is None
    assert tracing.begin(sent) is None
    assert tracing.traceparent() is None


def test_without_a_collector_a_callers_trace_is_passed_on_and_named_in_lines() -> None:
    scope = tracing.begin(SENT)
    assert scope is not None
    seen_elsewhere: list[Any] = []
    thread = threading.Thread(target=lambda: seen_elsewhere.append(tracing.traceparent()))
    thread.start()
    thread.join()
    assert (tracing.traceparent(), get_contextvars()["trace_id"]) == (SENT, TRACE)
    # What is started beside a request belongs to nobody.
    assert seen_elsewhere == [None]
    scope.end("GET /", failed=False, facts={})
    assert tracing.traceparent() is None
    assert "trace_id" not in get_contextvars()


def test_an_event_goes_on_in_the_trace_of_the_request(
    client: Client, make_user: Any, sql: Any
) -> None:
    forgot = "/api/v1/auth/password/forgot"
    found = (
        "SELECT traceparent FROM outbox_events"
        " JOIN mails ON mails.id = subject_id WHERE email = :email"
    )
    for sent, kept in ((SENT, SENT), ("00-nonsense-01", None), (None, None)):
        user = make_user(verified=True)
        headers = {} if sent is None else {"traceparent": sent}
        assert client.post(forgot, json={"email": user.email}, headers=headers).status_code == 202
        assert sql(found, email=user.email) == [(kept,)]


def test_a_request_that_nobody_follows_pays_for_two_looks(client: Client, make_user: Any) -> None:
    user = make_user()
    client.get("/api/v1/users/me", token=user.token)
    called: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename == tracing.__file__:
            called[frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        assert client.get("/api/v1/users/me", token=user.token).status_code == 200
    finally:
        sys.setprofile(before)
    assert called == {"begin_request": 1, "end_request": 1}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collecting(tmp_path_factory.mktemp("collector")) as collector:
        yield collector


@pytest.fixture
def collect(settings: Settings, collector: Collector) -> Iterator[Callable[[float], None]]:
    """A function that begins to collect a share of the traces."""
    endpoint = f"{collector.address}/v1/traces"
    yield lambda share: tracing.start(
        replace(settings, otlp_endpoint=endpoint, otlp_sample_ratio=share)
    )
    tracing.stop(5)


@pytest.mark.parametrize(
    ("share", "sent", "sampled"),
    [
        (1.0, None, True),
        (0.0, None, False),
        # Whoever began the trace has decided.
        (0.0, SENT, True),
        (1.0, UNSAMPLED, False),
    ],
)
def test_who_begins_a_trace_decides_whether_it_is_kept(
    collect: Any, share: float, sent: str | None, sampled: bool
) -> None:
    collect(share)
    scope = tracing.begin(sent)
    assert scope is not None
    here = tracing.place(tracing.traceparent())
    assert here is not None
    assert here.sampled == sampled
    assert get_contextvars()["trace_id"] == here.trace_id
    if sent is not None:
        assert here.trace_id == TRACE
    # A step of what nobody keeps is none.
    assert (inside() != str(here)) == sampled
    assert tracing.traceparent() == str(here)
    scope.end("GET /", failed=False, facts={})
    assert tracing.traceparent() is None
    assert "trace_id" not in get_contextvars()


@tracing.step("inside")
def inside() -> str | None:
    return tracing.traceparent()


def test_a_share_is_kept_of_the_traces_that_begin_here(collect: Any) -> None:
    collect(0.25)
    kept = 0
    for _ in range(400):
        scope = tracing.begin(None, job=True)
        assert scope is not None
        kept += str(tracing.traceparent()).endswith("-01")
        scope.end("job", failed=False, facts={})
    assert 50 < kept < 160
