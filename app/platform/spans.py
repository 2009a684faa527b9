"""Makes spans with OpenTelemetry, and sends them by OTLP over HTTP: nothing else imports that.

A span says what was done, when, for which user's id and with what outcome. It never holds a query
string, a network or e-mail address, a statement's values, or the words of an error: attributes are
allowed by name, and the rest of what the libraries collect is dropped before it leaves.

Spans wait in a queue of limited length, which a thread of its own empties (under gevent it is a
greenlet). When nobody takes them the oldest are dropped, and no request waits for anything of it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg2 import CursorTracer, DatabaseApiIntegration
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from sqlalchemy import make_url

from app.platform import statements
from app.platform.log_lines import SERVICE
from app.platform.logging import get_logger
from app.platform.settings import Settings
from app.platform.tracing import Facts, Place, mark_lines, unmark_lines

# Some seconds of a busy worker, about 2 MB.
QUEUE_LENGTH: Final = 4_096
# Turning a span into bytes takes 20 to 40 µs during which no request runs: 2 ms at most at a time.
BATCH: Final = 50
EVERY_MILLISECONDS: Final = 1_000
# For one batch, with all repetitions.
SEND_SECONDS: Final = 5.0
STATEMENT, ERROR_TYPE = "db.statement", "error.type"
# What a span may say. Everything else is dropped, whatever a later library adds.
ATTRIBUTES: Final = frozenset(
    {"http.request.method", "http.route", "http.response.status_code", "enduser.id"}
    | {"bursar.request_id", "bursar.task", "bursar.job_id", "bursar.attempts"}
    | {"db.system", "db.name", STATEMENT, ERROR_TYPE}
)
log = get_logger(__name__)


class OpenTelemetry:
    """Makes spans of requests, jobs, steps and statements, and sends them to a collector."""

    def __init__(self, settings: Settings) -> None:
        """Start to send; nothing is connected before there is something to send."""
        resource = Resource(
            {
                "service.name": SERVICE,
                "service.version": settings.version,
                "deployment.environment.name": settings.env,
            }
        )
        self._provider = TracerProvider(
            # `tracing` has decided before.
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=SEND_SECONDS)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                Sparing(exporter),
                max_queue_size=QUEUE_LENGTH,
                max_export_batch_size=BATCH,
                schedule_delay_millis=EVERY_MILLISECONDS,
            )
        )
        self._tracer = self._provider.get_tracer(SERVICE, settings.version)
        database = DatabaseApiIntegration(__name__, "postgresql", tracer_provider=self._provider)
        database.database = make_url(settings.database_url).database or ""
        self._statements: CursorTracer = CursorTracer(database)

    def begin(self, parent: Place | None, *, job: bool) -> "Open":
        """Enter the parent's trace, which is sampled, or a new one."""
        context = Context()
        if parent is not None:
            known = SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
            context = set_span_in_context(NonRecordingSpan(known), context)
        kind = SpanKind.CONSUMER if job else SpanKind.SERVER
        return Open(self._tracer.start_span(kind.name.lower(), context, kind=kind))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Give a span of what is done inside, if that belongs to a trace that is collected."""
        if not get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute(ERROR_TYPE, type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise

    def run_statement(
        self, cursor: Any, execute: Callable[..., None], statement: Any, values: Any
    ) -> None:
        """Run a statement, as a span if that belongs to a trace that is collected.

        The look for work that goes on all the time belongs to none.
        """
        if get_current_span().is_recording():
            self._statements.traced_execution(cursor, execute, statement, values)
        else:
            execute(statement, values)

    def here(self) -> Place | None:
        """Return the place of what runs now, or None outside of a trace."""
        own = get_current_span().get_span_context()
        if not own.is_valid:
            return None
        return Place(
            format_trace_id(own.trace_id), format_span_id(own.span_id), own.trace_flags.sampled
        )

    def stop(self, seconds: float) -> None:
        """Send what is left, within so many seconds."""
        # The library itself would wait for half a minute.
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(seconds)


class Open:
    """A request or a job whose span isn't over yet; what runs in it finds it by its context."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token = attach(set_span_in_context(span))
        mark_lines(format_trace_id(span.get_span_context().trace_id))

    def end(self, name: str, *, failed: bool, facts: Facts) -> None:
        """End the span, under the name that is known by now."""
        span = self._span
        if span.is_recording():
            span.update_name(name)
            span.set_attributes({key: told for key, told in facts.items() if told is not None})
            if failed:
                span.set_status(StatusCode.ERROR)
        span.end()
        detach(self._token)
        unmark_lines()


class Sparing(SpanExporter):
    """Sends spans with only what is known to be harmless, and tells once when nobody takes them."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that nobody takes are lost."""
        result = self._exporter.export([_harmless(span) for span in spans])
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            log.warning(
                "trace_collector_away",
                advice="Look at APP_OTLP_ENDPOINT; APP_LOG_LEVELS=opentelemetry=warning tells why.",
            )
        elif self._away and not away:
            log.info("trace_collector_back")
        self._away = away
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()


def _harmless(span: ReadableSpan) -> ReadableSpan:
    """Return a span without anybody's data (an allow-list, not a deny-list)."""
    told = {key: value for key, value in (span.attributes or {}).items() if key in ATTRIBUTES}
    # The library notes an error as an event, with its words and its lines; the type is kept.
    for event in span.events:
        kind = (event.attributes or {}).get("exception.type")
        if kind is not None:
            told[ERROR_TYPE] = kind
    name = span.name
    if STATEMENT in told:
        name = statements.name_of(told[STATEMENT])
        told[STATEMENT] = statements.text_of(told[STATEMENT])
    return ReadableSpan(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=told,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
