"""README's installation with systemd, in a clean folder: all that needs no running systemd."""

import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.platform.settings import EXIT_CODE, PROJECT_ROOT
from tests.server.serving import wait_until
from tests.system import debian
from tests.system.http import wait_for
from tests.system.image_steps import PYTHON, Image
from tests.system.test_make_run import cloned

UNITS = ("bursar-web", "bursar-worker", "bursar-migrate")
INSTALL = (
    "install --no-cache-dir --require-hashes --only-binary=:all: --requirement requirements.txt"
)
# Tenths: systemd itself calls it OK below 5.0, and its own units have up to 9.
MOST_EXPOSED = "20"


@dataclass
class Host:
    """What the steps have left: a clone with its packages, units, and what systemctl was told."""

    folder: Path
    told: str

    def directives(self, unit: str) -> dict[str, list[str]]:
        """Return what a unit says, after what all of them say."""
        place = self.folder / "etc/systemd/system"
        found: dict[str, list[str]] = {}
        for path in (place / "bursar-.service.d/shared.conf", place / f"{unit}.service"):
            for name, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
                found.setdefault(name, []).append(value)
        return found

    @contextmanager
    def running(self, unit: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a unit's ExecStart as its manager does: environment, user, folder, system calls."""
        said = self.directives(unit)
        environment = {"PATH": "/usr/bin:/bin"} | more
        for file in said["EnvironmentFile"]:
            lines = Path(file).read_text().splitlines()
            environment |= dict(line.split("=", 1) for line in lines if re.match("[A-Z]", line))
        environment |= dict(
            one.split("=", 1) for line in said["Environment"] for one in line.split()
        )
        sandboxed = self.folder / "tests/system/sandboxed.py"
        command, identity = shlex.split(said["ExecStart"][0]), user()
        Path(environment["APP_DATA_DIR"]).mkdir(parents=True, exist_ok=True)
        os.chown(environment["APP_DATA_DIR"], identity.get("user", -1), identity.get("group", -1))
        with (self.folder / f"{unit}.log").open("wb") as log:
            process = subprocess.Popen(
                [PYTHON, sandboxed, *said["SystemCallFilter"], "--", *command],
                cwd=said["WorkingDirectory"][0],
                env=environment,
                stdin=subprocess.DEVNULL,
                # Both, as in the journal.
                stdout=log,
                stderr=log,
                **identity,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def log(self, unit: str) -> str:
        """Return what a unit has written to its journal."""
        return (self.folder / f"{unit}.log").read_text()


def user() -> dict[str, Any]:
    """Return who `bursar` is: ourselves, or a user of no name when we are root."""
    return {"user": 10001, "group": 10001, "extra_groups": []} if os.getuid() == 0 else {}


@pytest.fixture(scope="module")
def host(image: Image, installation: dict[str, str]) -> Iterator[Host]:
    """The host after README's steps, with the settings of an installation filled in."""
    readme = (PROJECT_ROOT / "README.md").read_text()
    (steps,) = [block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
                if "/etc/systemd/system" in block]  # fmt: skip
    with cloned({}) as clone:
        clone.folder.chmod(0o755)
        programs = clone.folder / "programs"
        programs.mkdir()
        for name in ("systemctl", "useradd"):
            (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {clone.folder}/told\n')
            (programs / name).chmod(0o755)
        # The packages are those of the image, installed by the same command a minute ago.
        packages = f"python3 -m venv .venv\n.venv/bin/pip {INSTALL}\n"
        assert packages in steps
        assert f"/opt/venv/bin/pip {INSTALL}" in (PROJECT_ROOT / "Dockerfile").read_text()
        steps = steps.replace(packages, f"ln -s {image.root}/opt/venv .venv\n")
        (clone.folder / "etc/systemd/system").mkdir(parents=True)
        subprocess.run(
            ["/bin/sh", "-euc", placed(steps, clone.folder)],
            env={"PATH": f"{programs}:/usr/bin:/bin"},
            cwd="/",
            check=True,
        )
        fill_in(clone.folder, installation)
        yield Host(clone.folder, (clone.folder / "told").read_text())


def placed(text: str, folder: Path) -> str:
    """Return a text with our folder in the place of the host's own."""
    text = text.replace("/srv/bursar", str(folder))
    return text.replace("/etc/", f"{folder}/etc/").replace("/run/", f"{folder}/run/")


def fill_in(folder: Path, installation: dict[str, str]) -> None:
    """Write what an operator writes into the settings, and our paths into the units."""
    for name, value in installation.items():
        place = "owner.env" if "MIGRATION" in name else "bursar.env"
        with (folder / "etc/bursar" / place).open("a") as file:
            file.write(f"{name}={value}\n")
    for path in (folder / "etc/systemd/system").rglob("*"):
        if path.is_file():
            path.write_text(placed(path.read_text(), folder))


def test_the_steps_leave_what_the_units_ask_for(host: Host) -> None:
    assert host.told.splitlines() == [
        "useradd --system --no-create-home --shell /usr/sbin/nologin bursar",
        "systemctl daemon-reload",
        "systemctl start bursar-migrate",
        "systemctl enable --now bursar-web bursar-worker",
    ]
    for name in ("bursar.env", "owner.env"):
        assert (host.folder / "etc/bursar" / name).stat().st_mode & 0o777 == 0o600
    units = [str(host.folder / f"etc/systemd/system/{unit}.service") for unit in UNITS]
    verified = subprocess.run(
        [debian.systemd_analyze(), "verify", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    for unit in units:
        how = ["security", "--offline=yes", "--no-pager", f"--threshold={MOST_EXPOSED}", unit]
        subprocess.run([debian.systemd_analyze(), *how], stdout=subprocess.DEVNULL, check=True)


def test_the_units_bring_up_a_service_that_reloads_and_stops(host: Host) -> None:
    with host.running("bursar-migrate") as migrate:
        assert migrate.wait(60) == 0, host.log("bursar-migrate")
    # Where gunicorn says that it has bound its address: Type=notify.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        place = host.folder / "notify"
        manager.bind(str(place))
        place.chmod(0o777)
        manager.settimeout(60)
        with host.running("bursar-web", NOTIFY_SOCKET=str(place)) as web:
            assert b"READY=1" in manager.recv(4096)
            said = host.directives("bursar-web")
            settings = (host.folder / "etc/bursar/bursar.env").read_text()
            (port,) = re.findall(r"^APP_SERVER_PORT=(\d+)$", settings, re.MULTILINE)
            wait_for(f"http://127.0.0.1:{port}/ready", 200)
            reload = said["ExecReload"][0].replace("$MAINPID", str(web.pid))
            subprocess.run(shlex.split(reload), check=True)
            wait_until(lambda: '"event":"reloaded"' in host.log("bursar-web"))
            wait_for(f"http://127.0.0.1:{port}/ready", 200)
            web.send_signal(signal.Signals[said["KillSignal"][0]])
            assert web.wait(int(said["TimeoutStopSec"][0])) == 0
    with host.running("bursar-worker") as worker:
        wait_until(lambda: "worker_started" in host.log("bursar-worker"), seconds=60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    for unit in ("bursar-web", "bursar-worker"):
        assert "Traceback" not in host.log(unit)
        assert host.directives(unit)["RestartPreventExitStatus"] == [str(EXIT_CODE)]
