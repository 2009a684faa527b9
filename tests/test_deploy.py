"""The files in deploy/ name settings that there are, leave time to stop, and hold no secret."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from app.platform.settings import DECLARED, PROJECT_ROOT

DEPLOY = PROJECT_ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KNOWN = {one.name for one in DECLARED}
COMPOSED = [PROJECT_ROOT / "compose.yaml", DEPLOY / "compose.cluster.yaml"]
# What a service asks for when it is told to stop, with the wait before that.
STOP_SECONDS = 60


def manifests() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests():
        if "template" in manifest.get("spec", {}):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "path", [path for path in DEPLOY.rglob("*") if path.is_file()], ids=lambda path: path.name
)
def test_only_settings_that_there_are_are_set(path: Any) -> None:
    named = set(re.findall(r"\bAPP_[A-Z_]+", path.read_text()))
    # Behind a URL stands its file, and in a comment maybe the beginning of a name only.
    assert {name.removesuffix("_FILE") for name in named} - KNOWN <= {"APP_ENV"}


@pytest.mark.parametrize("path", COMPOSED, ids=lambda path: path.name)
def test_containers_get_time_to_stop_and_their_secrets_from_outside(path: Any) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    for name in ("web", "worker"):
        assert services[name]["stop_grace_period"] == f"{STOP_SECONDS}s"
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "KEYS" in name:
                assert re.fullmatch(r"\$\{\w+(:\?[^}]+)?\}", value), name
            assert not re.search(r"://[^/]*:[^$][^/]*@", value), name
        migrates = "APP_DATABASE_MIGRATION_URL" in service.get("environment", {})
        assert migrates == (service.get("command") == ["flask", "db", "upgrade"])


def test_pods_are_confined_and_only_the_one_that_migrates_is_the_owner() -> None:
    found = dict(pods())
    assert found.keys() == {"bursar-web", "bursar-worker", "bursar-migrate"}
    for name, pod in found.items():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        secrets = [
            each["secretRef"]["name"] for each in container["envFrom"] if "secretRef" in each
        ]
        assert ("bursar-owner" in secrets) == (name == "bursar-migrate")
        if name != "bursar-migrate":
            assert pod["terminationGracePeriodSeconds"] == STOP_SECONDS


@pytest.mark.parametrize("name", ["web", "worker"])
def test_units_get_time_to_stop(name: str) -> None:
    unit = (DEPLOY / f"systemd/bursar-{name}.service").read_text()
    assert f"\nTimeoutStopSec={STOP_SECONDS}\n" in unit


def test_probes_ask_for_a_restart_by_health_alone() -> None:
    (container,) = dict(pods())["bursar-web"]["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/health", "readiness": "/ready", "liveness": "/health"}
    (worker,) = dict(pods())["bursar-worker"]["containers"]
    assert worker["livenessProbe"]["httpGet"] == {"path": "/health", "port": "metrics"}
    (user,) = re.findall(r"^USER (\d+)$", (PROJECT_ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {pod["securityContext"]["runAsUser"] for _, pod in pods()} == {int(user)}


def test_prometheus_can_read_the_numbers_of_every_shape() -> None:
    wanted = {"APP_METRICS_BIND": 9100, "APP_WORKER_METRICS_BIND": 9101}
    (config,) = [each["data"] for each in manifests() if each["kind"] == "ConfigMap"]
    ports = {
        port["name"]: port["containerPort"]
        for _, pod in pods()
        for port in pod["containers"][0].get("ports", [])
        if port["containerPort"] != 3000
    }
    shapes = [config]
    for path in COMPOSED:
        services = yaml.safe_load(path.read_text())["services"]
        shapes += [services[name]["environment"] for name in ("web", "worker")]
    for shape in shapes:
        assert {name: int(shape[name].rpartition(":")[2]) for name in wanted} == wanted
    listening = {
        pod["containers"][0]["ports"][-1]["containerPort"]
        for name, pod in pods()
        if name != "bursar-migrate"
    }
    assert ports.keys() == {"metrics"}
    assert listening == set(wanted.values())
