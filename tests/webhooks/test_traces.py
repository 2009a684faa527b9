"""A try to deliver can be found among the traces, by whoever takes the message as well."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.platform import tracing
from app.platform.settings import Settings
from app.webhooks.delivery import attempt, take
from app.webhooks.intake import take_in
from tests.collector import collecting
from tests.webhooks.listening import Receiver


def test_a_try_is_a_span_that_its_message_names(
    receiver: Receiver,
    make_webhook: Callable[..., dict[str, Any]],
    make_user: Callable[..., Any],
    settings: Settings,
    tmp_path: Path,
) -> None:
    path = f"status/503?{uuid4().hex}"
    webhook = make_webhook(receiver.url(path), "user.created")
    make_user()
    take_in()
    (message,) = take(webhook["id"], most=1)
    attempt(message)
    with collecting(tmp_path) as collector:
        tracing.start(replace(settings, otlp_endpoint=f"{collector.address}/v1/traces"))
        attempt(message)
        tracing.stop(5)
        (span,) = collector.spans()
    unfollowed, followed = receiver.got(path)
    assert "traceparent" not in unfollowed.headers
    assert followed.headers["traceparent"] == f"00-{span['trace']}-{span['id']}-01"
    assert span["name"] == "job webhooks.deliver"
    assert span["facts"] == {"bursar.attempts": 1, "http.response.status_code": 503}
