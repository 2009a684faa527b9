"""A collector that hangs, is away or comes back is nothing that a client notices."""

import socket
import time
from pathlib import Path

from tests.collector import collecting
from tests.server.serving import serving, wait_until
from tests.server.visiting import Visitor

# Of the collector's own limits the shortest is that of one batch, 5 s.
NOTICEABLE_SECONDS = 2.0
TRACE, CALLER = "4b" * 16, "0f" * 8
SENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
PATH = "/api/v1/nothing"


def test_no_request_waits_for_a_collector_and_its_return_is_noticed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        given = {"APP_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        with serving(tmp_path, app=None, **given) as server:
            visitor = Visitor(server.port)
            slowest = 0.0
            # It accepts, and never answers. More spans than one batch are under way to it.
            end = time.monotonic() + 8
            while not server.lines("trace_collector_away") and time.monotonic() < end:
                begun = time.monotonic()
                assert visitor.get(PATH).status == 404
                slowest = max(slowest, time.monotonic() - begun)
                time.sleep(0.01)
            assert slowest < NOTICEABLE_SECONDS
            (line,) = server.lines("trace_collector_away")
            assert line["level"] == "warning"
            # It goes away, and connections are refused.
            silent.close()
            for _ in range(20):
                assert visitor.get(PATH).status == 404
            with collecting(tmp_path, port=port) as collector:
                visitor.get(PATH, headers=SENT)
                wait_until(lambda: collector.trace(TRACE))
                wait_until(lambda: server.lines("trace_collector_back"))
            assert len(server.lines("trace_collector_away")) == 1
            visitor.close()
            assert server.errors.read_text() == ""


def test_a_stop_waits_for_a_silent_collector_no_longer_than_two_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = {"APP_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with serving(tmp_path, app=None, **given) as server:
            visitor = Visitor(server.port)
            visitor.get(PATH)
            visitor.close()
            # A worker without traces stops within one and a half.
            assert server.stop() < 4.5
            assert server.process.returncode == 0
            assert server.lines("request")[-1]["status"] == 404


def test_what_waits_to_be_sent_is_sent_at_the_stop(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        given = {"APP_OTLP_ENDPOINT": collector.address, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=k"}
        with serving(tmp_path, app=None, **given) as server:
            visitor = Visitor(server.port)
            for _ in range(300):
                visitor.get(PATH, headers=SENT)
            visitor.close()
            server.stop()
            assert len(collector.trace(TRACE)) == 300
