"""Metrics have names in four places, the code, README, the alerts and the dashboard: all the same.

And nobody can make series of them by sending something.
"""

import json
import random
import re
import string
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from flask import Flask

from app import create_app
from app.credits import keeping
from app.platform import metrics, overload, vitals
from app.platform.settings import Settings
from app.worker import jobs
from tests import tracing
from tests.client import Client
from tests.scraped import kinds, samples
from tests.tracing import unfollowed

pytestmark = unfollowed

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
ALERT_TESTS = ROOT / "deploy/prometheus/alerts_test.yaml"
DASHBOARD = ROOT / "deploy/grafana/bursar.json"
# Prometheus's own: whether a scrape worked.
OF_PROMETHEUS = {"up"}
PARTS = ("_bucket", "_sum", "_count")
# The words of a query that name no metric and aren't called like a function.
WORDS = {"by", "on", "or", "and", "unless", "offset"}
PATHS = 10_000


@pytest.fixture
def exposed(empty_database: Settings) -> dict[str, str]:
    """Every metric of the service and of the worker, with its type."""
    # Some are declared by what only gunicorn or only the worker loads.
    assert {jobs.__name__, overload.__name__, vitals.__name__} <= sys.modules.keys()
    keeping.check()
    return kinds(Client(create_app(empty_database)).get("/metrics").text)


def named(query: str) -> set[str]:
    """Return the metrics that a query asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)", " ", query)
    words = set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*\b(?! *\()", re.sub(r"\b\d\w*", " ", bare)))
    return words - WORDS - {"le"}


def missing(names: set[str], exposed: dict[str, str]) -> set[str]:
    """Return which of the series' names none of the metrics has."""
    there = OF_PROMETHEUS | {
        name + part
        for name, kind in exposed.items()
        for part in (PARTS if kind == "histogram" else ("",))
    }
    return names - there


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries_of_the_dashboard() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_readme_lists_every_metric_and_no_other(exposed: dict[str, str]) -> None:
    table = README[README.index("| metric |") :].split("\n\n")[0]
    listed = [
        name for row in table.splitlines()[2:] for name in re.findall("`(.*?)`", row.split("|")[1])
    ]
    assert sorted(listed) == sorted(exposed)


def test_the_alerts_and_the_dashboard_ask_for_metrics_that_exist(exposed: dict[str, str]) -> None:
    asked = [rule["expr"] for rule in rules()] + queries_of_the_dashboard()
    assert len(asked) > 50
    names = set[str]().union(*map(named, asked))
    assert {"http_request_duration_seconds_bucket", "ledger_frozen"} < names
    assert missing(names, exposed) == set()


def test_the_dashboard_shows_every_metric(exposed: dict[str, str]) -> None:
    names = set[str]().union(*map(named, queries_of_the_dashboard()))
    shown = {re.sub("(_bucket|_sum|_count)$", "", name) for name in names}
    assert sorted(exposed.keys() - shown) == []


def test_every_alert_is_told_what_to_do_about_and_is_tested() -> None:
    tests = ALERT_TESTS.read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "what_to_do"}
        assert f'alertname="{rule["alert"]}"' in tests


@tracing.unfollowed
def test_ten_thousand_random_paths_and_methods_add_no_series(app: Flask) -> None:
    chance = random.Random(6)
    methods = [*sorted(metrics.METHODS), "OTHER"]
    kinds_of_paths = (
        "/{}",
        "/api/v1/{}",
        "/api/v1/users/{id}",
        "/api/v1/orders/{id}/{}",
        "/{}/{id}",
    )
    for path in kinds_of_paths:
        for method in methods:
            ask(app, method, path.format("x", id=UUID(int=0)))
    before = samples().keys()
    assert sum(series.startswith("http_requests_total") for series in before) >= 2 * len(methods)
    for _ in range(PATHS):
        method = chance.choice([*methods, word(chance).upper()])
        path = chance.choice(kinds_of_paths)
        ask(app, method, path.format(word(chance), id=UUID(int=chance.getrandbits(128))))
    assert samples().keys() == before


def word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits + ".-_~é", k=12))


def ask(app: Flask, method: str, path: str) -> None:
    """Send a request on the shortest way: a client takes longer than its answer."""
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.input": BytesIO(),
        "wsgi.errors": BytesIO(),
        "wsgi.url_scheme": "http",
    }
    answer: Iterator[bytes] = app.wsgi_app(environ, lambda *_: None)
    for _ in answer:
        pass
    answer.close()
