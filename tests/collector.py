"""A stand-in for an OpenTelemetry collector: a real OTLP receiver, as a process of its own.

`python -m tests.collector PORT FILE` takes spans on the port, and writes each of them into the file
as a line of JSON. What isn't OTLP is answered by 400, as a collector does.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests import canaries
from tests.network import free_port

ROOT = Path(__file__).resolve().parents[1]
Span = dict[str, Any]


class Receiver(BaseHTTPRequestHandler):
    """Takes one request of an exporter."""

    file = Path()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = ExportTraceServiceRequest()
        try:
            asked.ParseFromString(body)
        except DecodeError:
            self.send_error(400)
            return
        if self.path != "/v1/traces":
            self.send_error(404)
            return
        with self.file.open("a") as file:
            file.writelines(json.dumps(span) + "\n" for span in _spans(asked))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Stay silent."""


def _spans(asked: ExportTraceServiceRequest) -> Iterator[Span]:
    for group in asked.resource_spans:
        resource = _facts(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield {
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "begun": span.start_time_unix_nano,
                    "ended": span.end_time_unix_nano,
                    "facts": _facts(span.attributes),
                    "failed": span.status.code == 2,
                    # What nothing may be in: words of errors.
                    "words": [span.status.message, *(str(event) for event in span.events)],
                    "resource": resource,
                }


def _facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@dataclass(frozen=True)
class Collector:
    """A running receiver."""

    port: int
    file: Path

    @property
    def address(self) -> str:
        """Return what APP_OTLP_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self.port}"

    def spans(self) -> list[Span]:
        """Return all spans that have arrived, in the order of their beginning."""
        text = self.file.read_text() if self.file.exists() else ""
        canaries.hear("what goes to a collector", text.encode())
        every = [json.loads(line) for line in text.splitlines()]
        return sorted(every, key=lambda span: span["begun"])

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace."""
        return [span for span in self.spans() if span["trace"] == trace_id]


@contextmanager
def collecting(folder: Path, *, port: int | None = None) -> Iterator[Collector]:
    """Run a receiver until the block ends, listening from the first moment."""
    collector = Collector(port or free_port(), folder / "spans")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.collector", str(collector.port), str(collector.file)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"listening\n"
            yield collector
        finally:
            process.terminate()


def main(port: str, file: str) -> None:
    """Listen until the process is ended."""
    Receiver.file = Path(file)
    with ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver) as server:
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
