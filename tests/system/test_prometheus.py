"""A real Prometheus scrapes two workers and `flask worker`, and knows everything that went on."""

import json
import os
import signal
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from app import configure, create_app
from app.audit import service as audit
from app.keys import service as keys
from app.platform.settings import Settings
from tests import people
from tests.database import Databases, pool_on, variables
from tests.network import free_port
from tests.people import PASSWORD, TestUser
from tests.server.serving import Server, serving, wait_until
from tests.server.visiting import Visitor
from tests.system import debian
from tests.worker.working import Worker, working

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TOKEN = "let-prometheus-read"
LOGIN = "/api/v1/auth/login"


@dataclass
class Prometheus:
    """A running Prometheus, asked by its HTTP API."""

    port: int = field(default_factory=free_port)

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer that says success."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def values(self, query: str) -> list[float]:
        """Return the values of a query, without their labels."""
        result = self.ask("query", query=query)["result"]
        return [float(one["value"][1]) for one in result]

    def answers(self) -> bool:
        """Tell whether it does."""
        try:
            return bool(self.ask("status/buildinfo"))
        except OSError:
            return False


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Everything that runs, and who uses it."""

    server: Server
    metrics_port: int
    worker: Worker
    worker_port: int
    prometheus: Prometheus
    admin: TestUser
    users: list[TestUser]

    def exposition(self, port: int) -> str:
        """Return what Prometheus gets there."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """Run a Prometheus with the configuration of deploy/, every second, with our addresses."""
    running = Prometheus()
    token = folder / "token"
    token.write_text(TOKEN)
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets.pop(job['job_name'])}"]}]
        job["authorization"] = {"credentials_file": str(token)}
    assert not targets
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    options = [f"--config.file={file}", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [debian.prometheus()[0], *options, f"--web.listen-address=127.0.0.1:{running.port}"],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(running.answers)
        yield running
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def database(databases: Databases, settings: Settings, pool: None) -> Iterator[Settings]:
    """A database of this module's own, which this process's pool is on."""
    with databases.fresh() as fresh, pool_on(fresh, instead_of=settings):
        keys.configure(fresh, record=audit.record_signing_key)
        yield fresh
    configure(settings)


@pytest.fixture(scope="module")
def installation(
    database: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("prometheus")
    app = create_app(database)
    admin = people.make_user(app, roles=("admin",))
    users = [people.make_user(app) for _ in range(8)]
    ports = {"bursar": free_port(), "bursar-worker": free_port()}
    shared = {
        "APP_METRICS_TOKEN": TOKEN,
        "APP_AUTH_ISSUER": database.auth_issuer,
        "APP_RATE_LIMIT_ENABLED": "true",
        "APP_RATE_LIMIT_ANONYMOUS_PER_MINUTE": "1000",
    }
    of_server = {
        "APP_METRICS_BIND": f"127.0.0.1:{ports['bursar']}",
        "APP_SERVER_WORKERS": "2",
        # Hashes that take long enough to be seen waiting.
        "APP_AUTH_ARGON2_TIME_COST": "4",
        "APP_AUTH_ARGON2_MEMORY_KIB": "19456",
        "APP_DATABASE_MAX_CONNECTIONS": "5",
    }
    of_worker = {"APP_WORKER_METRICS_BIND": f"127.0.0.1:{ports['bursar-worker']}"}
    with (
        serving(folder, app=None, **variables(database) | shared | of_server) as server,
        working(database, folder, **shared, **of_worker) as worker,
        prometheus(folder, dict(ports)) as running,
    ):
        yield Installation(
            server=server,
            metrics_port=ports["bursar"],
            worker=worker,
            worker_port=ports["bursar-worker"],
            prometheus=running,
            admin=admin,
            users=users,
        )


def sign_in(installation: Installation, email: str, password: str = PASSWORD) -> int:
    """Sign in, and return the status."""
    visitor = Visitor(installation.server.port)
    try:
        return visitor.post(LOGIN, {"email": email, "password": password}).status
    finally:
        visitor.close()


def sign_in_until(installation: Installation, fact: Callable[[], object]) -> int:
    """Let all users sign in again and again until something is so; return how often they did."""
    enough = threading.Event()

    def one(user: TestUser) -> int:
        times = 0
        while not enough.is_set():
            assert sign_in(installation, user.email) == 200
            times += 1
        return times

    with ThreadPoolExecutor(len(installation.users)) as threads:
        signing_in = threads.map(one, installation.users)
        try:
            wait_until(fact)
        finally:
            enough.set()
        return sum(signing_in)


def grant(installation: Installation) -> None:
    visitor = Visitor(installation.server.port)
    body = {"user_id": str(installation.users[0].id), "amount": 7, "memo": "For a test"}
    answer = visitor.post(
        "/api/v1/credits/grants",
        body,
        token=installation.admin.token,
        headers={"Idempotency-Key": str(uuid4())},
    )
    visitor.close()
    assert answer.status == 201


def test_prometheus_knows_what_went_on(installation: Installation) -> None:
    known = installation.prometheus.values
    wait_until(lambda: known("up") == [1, 1], seconds=40)
    wrong = [sign_in(installation, "nobody@example.com", "a-wrong-password") for _ in range(8)]
    assert (wrong.count(401), wrong.count(429)) == (5, 3)
    # Each worker makes one hash at a time.
    queued = "max_over_time(password_hashes_queued[1m]) > 1"
    times = sign_in_until(installation, lambda: known(queued))
    for _ in range(3):
        grant(installation)
    wait_until(lambda: known('sum(transfers_total{kind="grant"})') == [3])
    assert known('sum(credits_moved_total{kind="grant"})') == [21]
    assert known('sum(logins_total{outcome="INVALID_CREDENTIALS"})') == [5]
    assert known('sum(logins_total{outcome="RATE_LIMITED"})') == [3]
    assert known('sum(logins_total{outcome="SIGNED_IN"})') == [times]
    assert known('rate_limit_refusals_total{limit="sign_in_both"}') == [3]
    route = 'route="/api/v1/credits/grants"'
    assert known(f'http_requests_total{{method="POST", {route}, status="201"}}') == [3]
    assert known(f"http_request_duration_seconds_count{{{route}}}") == [3]
    (database_seconds,) = known(f"http_request_database_seconds_sum{{{route}}}")
    (seconds,) = known(f"http_request_duration_seconds_sum{{{route}}}")
    assert 0 < database_seconds < seconds
    assert sorted(known("sum(database_pool_size) by (job)")) == [5, 10]
    assert len(known('worker_memory_bytes{job="bursar"}')) == 2
    assert all(10e6 < size < 400e6 for size in known("worker_memory_bytes"))
    assert all(count > 0 for count in known("event_loop_lag_seconds_count"))
    assert known("max(job_workers)") == [1]
    assert known("max(ledger_frozen)") == [0]


def test_what_a_worker_did_is_there_and_nothing_waits(installation: Installation) -> None:
    known = installation.prometheus.values
    # Each sign-in on a device that nobody knows sends a mail, and so did the users' sign-up.
    done = 'jobs_total{task="mail.deliver", outcome="done"}'
    wait_until(lambda: sum(known(done)) > 0 and known("max(outbox_events_waiting)") == [0])
    wait_until(lambda: known("max(outbox_oldest_age_seconds)") == [0])
    assert known('sum(jobs_total{outcome="given_up"})') == [0]
    wait_until(lambda: sum(known('job_duration_seconds_count{task="jobs.rescue"}')) > 0)


def test_the_rules_and_the_dashboard_are_understood(installation: Installation) -> None:
    wait_until(lambda: all(rule["health"] == "ok" for rule in rules(installation)))
    assert len(rules(installation)) >= 19
    told = {rule["name"] for rule in rules(installation) if rule["state"] == "firing"}
    assert told == set()
    panels = json.loads((DEPLOY / "grafana/bursar.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            installation.prometheus.ask("query", query=query)


def rules(installation: Installation) -> list[Any]:
    return [rule for group in installation.prometheus.ask("rules")["groups"]
            for rule in group["rules"]]  # fmt: skip


def test_promtool_has_nothing_to_say_about_what_is_exposed(installation: Installation) -> None:
    for port in (installation.metrics_port, installation.worker_port):
        text = installation.exposition(port)
        assert "# TYPE worker_memory_bytes gauge" in text
        promtool("check", "metrics", typed=text)


def test_the_rules_and_the_configuration_are_right() -> None:
    promtool("check", "config", str(DEPLOY / "prometheus/prometheus.yaml"))
    promtool("check", "rules", str(DEPLOY / "prometheus/alerts.yaml"))
    said = promtool("test", "rules", str(DEPLOY / "prometheus/alerts_test.yaml"))
    assert "SUCCESS" in said


def promtool(*arguments: str, typed: str = "") -> str:
    """Run promtool, which must neither fail nor complain."""
    ended = subprocess.run(
        [debian.prometheus()[1], *arguments],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert arguments[1] != "metrics" or said == ""
    return said


def test_who_is_gone_is_told_of(installation: Installation) -> None:
    """Last, because it ends the worker, and kills one of two others, which is replaced."""
    known = installation.prometheus.values
    before = known('sum(transfers_total{kind="grant", job="bursar"})')
    killed = installation.server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in installation.server.workers())
    wait_until(lambda: len(known('worker_memory_bytes{job="bursar"}')) == 2)
    assert known('sum(transfers_total{kind="grant", job="bursar"})') == before
    assert installation.worker.end()[0] == 0
    wait_until(lambda: known('up{job="bursar-worker"}') == [0] and known("max(job_workers)") == [0])

    def pending() -> set[str]:
        return {rule["name"] for rule in rules(installation) if rule["state"] == "pending"}

    wait_until(lambda: {"BursarInstanceDown", "BursarNoWorker"} <= pending())
