"""A client of a real server that stays on one connection, and so with one worker."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Any

from tests import canaries
from tests.server.serving import PATIENCE, Answer, Server, wait_until


class Visitor:
    """One keep-alive connection that speaks JSON."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, and return its answer; what is secret in them is noted."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, sent)
        response = self._connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        canaries.watch(token or "", *canaries.secrets_in(body))
        if answer.headers.get_content_type() == "application/json":
            canaries.watch(*canaries.secrets_in(answer.json))
        if answer.status >= 400:
            canaries.hear("an error body", answer.body)
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> Answer:
        return self.request("POST", path, body=body, **options)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def visitor_of_each_worker(server: Server, *, workers: int) -> Iterator[list[Visitor]]:
    """Give one visitor for each worker of a server."""
    wait_until(lambda: len(server.workers()) == workers)
    everyone = server.workers()
    with ExitStack() as ends:
        visitors = []
        for worker in everyone:
            # Who stands still takes no connection.
            others = [other for other in everyone if other != worker]
            for other in others:
                os.kill(other, signal.SIGSTOP)
            try:
                visitor = Visitor(server.port)
                ends.callback(visitor.close)
                assert visitor.get("/health").status == 200
                visitors.append(visitor)
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)
        yield visitors
