"""Loads settings in a project folder of a test's own, or learns why they are refused."""

from base64 import b64encode
from collections.abc import Callable

import pytest

from app.platform.settings import Settings, SettingsError

KEY = bytes((i * i * 7 + 3 * i + 1) % 251 for i in range(32))
MASTER_KEY = f"1:{b64encode(KEY).decode()}"
JWT_SECRET = "kR7!v0Zq-mX2p_Lw9sTdY4uB6nHcJ1eG"
CANARY = "cAnArY8f31"
PRODUCTION = {
    "APP_ENV": "production",
    "APP_PUBLIC_URL": "https://bursar.acme.org",
    "APP_DATABASE_URL": "postgresql://bursar_app:s3Kx9@db.acme.org:5432/bursar",
    "APP_AUTH_MASTER_KEYS": MASTER_KEY,
}
DEVELOPMENT = {"APP_DATABASE_URL": "postgresql://me@localhost/bursar"}

Load = Callable[..., Settings]


def problems(load: Load, environ: dict[str, str], **more: str) -> list[str]:
    """Load settings that are refused, and return why."""
    with pytest.raises(SettingsError) as caught:
        load(environ, **more)
    assert caught.value.__context__ is None
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems
