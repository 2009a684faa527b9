"""Puts load on a server for some seconds, and returns what it did: wrk, pgbench, argon2 alone."""

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.users import passwords

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one run did: answers per second, and milliseconds that half and 99 % took at most."""

    rate: float
    p50: float = 0.0
    p99: float = 0.0


class LoadError(Exception):
    """A run whose figures mean nothing, because something in it failed."""


def missing() -> list[str]:
    """Name the programs that this machine lacks, each with its Debian package."""
    packages = {"wrk": "wrk", "taskset": "util-linux"}
    return [f"{name} (apt install {package})" for name, package in packages.items()
            if shutil.which(name) is None]  # fmt: skip


def wrk(
    kind: str, url: str, *, clients: int, seconds: float, people: Path, password: str
) -> Figures:
    """Return what keep-alive clients got that each send the next request upon an answer.

    Raises LoadError when a request failed.
    """
    arguments = ["-t1", f"-c{clients}", f"-d{seconds:.0f}s", "--timeout=10s"]
    script = [f"--script={HERE / 'requests.lua'}", url, "--", kind, str(people)]
    said = _output(["wrk", *arguments, *script, secrets.token_hex(8), password])
    result = json.loads(said.splitlines()[-1])
    if result["failed"] or not result["requests"]:
        raise LoadError(f"{kind}: {result['failed']} of {result['requests']} requests failed")
    return Figures(
        rate=result["requests"] / result["microseconds"] * 1e6,
        p50=result["p50"] / 1000,
        p99=result["p99"] / 1000,
    )


def pgbench(
    program: Path,
    environ: Mapping[str, str],
    *,
    core: int,
    clients: int,
    seconds: float,
    people: int,
    apart: bool = False,
    shop: bool = False,
) -> Figures:
    """Return what PostgreSQL does of transfer.sql, asked by a C program on the service's core.

    Each client has a sender and a recipient of its own if they are `apart`; with `shop` all pay the
    one house account instead.

    Raises LoadError.
    """
    said = _output(
        ["taskset", "--cpu-list", str(core), str(program), "--no-vacuum", "--protocol=simple",
         f"--client={clients}", "--jobs=1", f"--time={seconds:.0f}", f"--define=people={people}",
         f"--define=apart={apart}", f"--define=shop={shop}",
         f"--file={HERE / 'transfer.sql'}"],
        environ,
    )  # fmt: skip
    rate = re.search(r"tps = ([\d.]+)", said)
    failed = re.search(r"failed transactions: (\d+)", said)
    if rate is None or failed is None or failed[1] != "0":
        raise LoadError(f"pgbench: {said}")
    return Figures(rate=float(rate[1]))


def argon2(password: str, password_hash: str, *, core: int, seconds: float) -> Figures:
    """Return how often this process alone verifies a password, on the service's core."""
    before, checked = os.sched_getaffinity(0), 0
    os.sched_setaffinity(0, {core})
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        passwords.verify(password, password_hash)
        checked += 1
    rate = checked / (time.perf_counter() - begun)
    os.sched_setaffinity(0, before)
    return Figures(rate=rate)


def _output(command: list[str], environ: Mapping[str, str] | None = None) -> str:
    """Return what a program wrote.

    Raises LoadError.
    """
    done = subprocess.run(
        command, env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LoadError(f"{command[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout
