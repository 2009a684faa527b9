"""What the system tests share: the image's files, and the settings of an installation."""

import base64
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network import free_port
from tests.system.external_postgres import external_postgres
from tests.system.image_steps import Image, build

COMMIT = "0123abc"


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """What the Dockerfile makes."""
    root = Path(tempfile.mkdtemp(prefix="bursar-image-"))
    try:
        # The image's user passes through; pytest's own folders are private.
        root.chmod(0o755)
        yield build(root, COMMIT=COMMIT)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=True)
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def installation() -> Iterator[dict[str, str]]:
    """Everything an operator sets, with an empty database of one's own on another server."""
    port = free_port()
    with external_postgres() as urls:
        yield urls | {
            "APP_AUTH_MASTER_KEYS": f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "APP_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "APP_SERVER_HOST": "127.0.0.1",
            "APP_SERVER_PORT": str(port),
        }
