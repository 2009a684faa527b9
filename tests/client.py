"""Speaks to the application as a client does: JSON in, JSON out, a token, an idempotency key."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from flask import Flask
from werkzeug.test import Client as WerkzeugClient
from werkzeug.test import TestResponse

from tests import canaries, seen


class Client:
    """One client, with its cookies. Several threads may use it at once."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.jar = WerkzeugClient(app)

    def request(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> TestResponse:
        """Send a request; `body` is what Werkzeug takes: `json`, `data`, `query_string`, …"""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token}")
        if key is not None:
            sent.setdefault("Idempotency-Key", key)
        answer = self.jar.open(url, method=method, headers=sent, buffered=True, **body)
        seen.note(self._app, method, answer.request.path, answer.status_code)
        canaries.note(answer, body.get("json"))
        return answer

    def get(self, url: str, **options: Any) -> TestResponse:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> TestResponse:
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> TestResponse:
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> TestResponse:
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> TestResponse:
        return self.request("DELETE", url, **options)


def new_key() -> str:
    """Return an idempotency key that nobody has used."""
    return str(uuid4())
