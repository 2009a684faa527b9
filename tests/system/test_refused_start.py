"""A start that is refused says so by one line of JSON in production, whatever is wrong."""

import base64
import json
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.network import free_port
from tests.server.serving import ROOT, command, environment

PRODUCTION = {
    "APP_ENV": "production",
    "APP_PUBLIC_URL": "https://bursar.example.com",
    "APP_AUTH_MASTER_KEYS": "1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    "APP_SERVER_HOST": "127.0.0.1",
}


def refusal(
    folder: Path, arguments: list[str], *, stream: str = "stdout", **given: str
) -> tuple[int, dict[str, Any]]:
    """Run a program that can't start; return its exit code, and its only line above INFO."""
    variables = environment(folder, **{**PRODUCTION, "APP_SERVER_PORT": str(free_port()), **given})
    ended = subprocess.run(
        arguments, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    texts = {"stdout": ended.stdout, "stderr": ended.stderr}
    lines = [json.loads(line) for line in texts.pop(stream).splitlines()]
    assert list(texts.values()) == [""]
    (line,) = [line for line in lines if line["level"] != "info"]
    assert {"timestamp", "level", "event", "logger", "service", "version"} <= line.keys()
    return ended.returncode, line


def test_wrong_settings_are_refused_by_every_program(tmp_path: Path) -> None:
    programs = {
        "stdout": command(),
        # It isn't known to be a server yet.
        "stderr": [sys.executable, "-m", "flask", "worker"],
    }
    for stream, arguments in programs.items():
        code, line = refusal(tmp_path, arguments, stream=stream, APP_LOG_LEVEL="loud")
        assert (code, line["event"], line["level"]) == (78, "settings_refused", "critical")
    code, line = refusal(tmp_path, [sys.executable, "-m", "app.launcher"], APP_LOG_LEVEL="loud")
    assert (code, line["event"]) == (78, "settings_refused")


def test_a_port_that_is_taken_is_told_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, line = refusal(tmp_path, command(), APP_SERVER_PORT=port)
    assert (code, line["event"], line["level"]) == (1, "cannot_listen", "critical")
    assert port in line["address"]
    assert "already in use" in line["reason"]


def test_an_application_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('canary')\n")
    code, line = refusal(tmp_path, command(f"--pythonpath={tmp_path}", app="broken:app"))
    assert (code, line["event"]) == (1, "uncaught_exception")
    assert line["error"] == "ValueError"
    assert "broken.py:1" in line["trace"]
    assert "canary" not in str(line)
