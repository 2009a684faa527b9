"""A worker shows on an address of its own what it does, and that it lives."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.platform.settings import Settings
from app.worker import numbers
from tests.network import free_port
from tests.scraped import samples
from tests.worker.office import Office
from tests.worker.test_backlog import shown
from tests.worker.working import wait_until, working

TOKEN = "let-me-read"


def ask(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Return status and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


@pytest.mark.usefixtures("traced")
def test_a_worker_shows_its_jobs_its_pool_and_its_event_loop(
    office: Office, tmp_path: Path
) -> None:
    port = free_port()
    given = {"APP_WORKER_METRICS_BIND": f"127.0.0.1:{port}"}
    with working(office.settings, tmp_path, **given) as worker:
        office.ask(3)
        wait_until(lambda: office.states() == {"sent"} and not office.jobs(), worker)
        status, text = ask(port, "/metrics")
        assert status == 200
        now = samples(text)
        assert now['jobs_total{outcome="done",task="mail.deliver"}'] == 3
        # What hasn't happened is there as well: the first time is an increase.
        assert now['jobs_total{outcome="given_up",task="mail.deliver"}'] == 0
        assert now['job_duration_seconds_count{task="mail.deliver"}'] == 3
        assert now['database_pool_size{worker="0"}'] == 5
        assert 20e6 < now['worker_memory_bytes{worker="0"}'] < 300e6
        # Three mails may take less than the half second after which it is first measured.
        wait_until(
            lambda: samples(ask(port, "/metrics")[1])["event_loop_lag_seconds_count"] >= 1, worker
        )
        # The web process reads these.
        assert "outbox_events_waiting" not in now
        assert ask(port, "/health")[0] == 200
        assert shown()["job_workers"] == 1
        with working(office.settings, tmp_path, wait=False, **given) as second:
            assert second.process.wait(60) == 78
            assert "APP_WORKER_METRICS_BIND can't be listened on" in second.log.read_text()
        assert worker.end()[0] == 0


@pytest.fixture
def port(settings: Settings) -> Iterator[int]:
    """Where this process answers as a worker does, to who has the token."""
    port = free_port()
    with numbers.answering(
        replace(settings, worker_metrics_bind=f"127.0.0.1:{port}", metrics_token=TOKEN)
    ):
        yield port


def test_the_numbers_may_ask_for_a_token_and_health_does_not(port: int) -> None:
    assert ask(port, "/metrics")[0] == 401
    assert ask(port, "/metrics", Authorization="Bearer another")[0] == 401
    status, text = ask(port, "/metrics", Authorization=f"Bearer {TOKEN}")
    assert (status, "# TYPE worker_memory_bytes gauge" in text) == (200, True)
    assert ask(port, "/health")[0] == 200
    assert ask(port, "/docs")[0] == 404


def test_a_client_that_says_nothing_keeps_nobody_from_being_answered(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)):
        assert ask(port, "/health")[0] == 200


def test_an_event_loop_that_stands_still_is_not_called_alive(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "_moved_at", time.monotonic() - numbers.STILL_SECONDS - 1)
    status, said = ask(port, "/health")
    assert (status, json.loads(said)["status"]) == (503, "stands still")
