"""Asks a service over real HTTP."""

import json
import time
import urllib.error
import urllib.request
from typing import Any


def answer(
    url: str,
    body: dict[str, str] | None = None,
    *,
    method: str | None = None,
    token: str | None = None,
) -> tuple[int, Any]:
    """Return status and JSON of a GET, or of a POST of the body; status 0 when nobody listens.

    Another method and an access token may be given. An answer without a body is None.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.loads(response.read() or "null")
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)
    except urllib.error.URLError:
        return 0, None


def wait_for(url: str, status: int) -> None:
    """Return when the URL answers with the status; fail after 30 seconds."""
    deadline = time.monotonic() + 30
    while (given := answer(url))[0] != status:
        assert time.monotonic() < deadline, f"{url} last answered {given}"
        time.sleep(0.2)
