"""Finds the programs that come from Debian packages, and says which package is missing."""

import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """Return the path of Chromium, or of a browser that is built from it."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail("A browser is missing: apt install chromium", pytrace=False)
    return found


def node_programs() -> tuple[str, str]:
    """Return the paths of `node` and `npm`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.fail("Node.js or its npm is missing: apt install nodejs npm", pytrace=False)
    return node, npm


def redis() -> str:
    """Return the path of the Redis server."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("Redis is missing: apt install redis-server", pytrace=False)
    return found


def pgbouncer() -> str:
    """Return the path of PgBouncer."""
    # Debian puts it where only root's PATH leads.
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        pytest.fail("PgBouncer is missing: apt install pgbouncer", pytrace=False)
    return found


def haproxy() -> str:
    """Return the path of HAProxy."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if found is None:
        pytest.fail("HAProxy is missing: apt install haproxy", pytrace=False)
    return found


def systemd_analyze() -> str:
    """Return the path of systemd's checker of units."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.fail("systemd-analyze is missing: apt install systemd", pytrace=False)
    return found


def postgresql() -> Path:
    """Return the folder with the programs of the newest PostgreSQL server, 15 or later."""
    versions = {
        int(initdb.parts[-3]): initdb.parent
        for initdb in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")
    }
    if max(versions, default=0) < 15:
        pytest.fail("PostgreSQL 15 or later is missing: apt install postgresql", pytrace=False)
    return versions[max(versions)]


def prometheus() -> tuple[str, str]:
    """Return the paths of `prometheus` and `promtool`."""
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if server is None or tool is None:
        pytest.fail("Prometheus is missing: apt install prometheus", pytrace=False)
    return server, tool
