"""Clients that write with keys, and repeat each request until its answer is final."""

import json
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException

from tests.chaos.writes import FINAL, Acknowledged, Drawer, Write

CLIENTS = 16
# How long a client waits for an answer before it repeats the request on a new connection. Shorter
# than the longest fault together with what waits behind it, so that some answers never arrive.
PATIENCE_SECONDS = 6.0
PAUSE_SECONDS = 0.05
# A proxy says so of a server that ended while it answered, or isn't there: repeating is safe.
PASSING = frozenset({502, 503, 504})
# Faults end, so nothing is refused for longer than this.
GIVE_UP_SECONDS = 60.0


class Client:
    """One connection to the service, and a memory of all that was acknowledged on it."""

    def __init__(self, port: int, drawer: Drawer) -> None:
        self._port, self._drawer = port, drawer
        self._connection: HTTPConnection | None = None
        self.acknowledged: list[Acknowledged] = []
        self.repeats: Counter[str] = Counter()
        self.unexpected: list[str] = []

    def run(self, enough: threading.Event) -> None:
        """Write until it is enough; what was begun gets its final answer."""
        while not enough.is_set():
            self.write(self._drawer.draw())
        self._close()

    def write(self, write: Write) -> None:
        """Send a write again and again until its answer is final, and remember that."""
        given_up_at = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < given_up_at:
            try:
                status, answer = self.send(write)
            except (OSError, HTTPException) as broken:
                self.repeats[f"connection: {type(broken).__name__}"] += 1
                self._close()
            else:
                if status in FINAL:
                    self.acknowledged.append(self._drawer.learn(write, status, answer))
                    return
                code = _code(answer)
                if status not in PASSING and code != "IDEMPOTENCY_IN_PROGRESS":
                    self.unexpected.append(f"{write.kind} {write.key}: {status} {code}")
                    return
                self.repeats[f"{status} {code}"] += 1
            time.sleep(PAUSE_SECONDS * self._drawer.dice.uniform(0.5, 1.5))
        self.unexpected.append(f"{write.kind}: no final answer in {GIVE_UP_SECONDS:.0f} s")

    def send(self, write: Write) -> tuple[int, bytes]:
        """Send a write once, and return status and body of the answer.

        Raises OSError or HTTPException.
        """
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        headers = {
            "Authorization": f"Bearer {write.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": write.key,
        }
        self._connection.request("POST", write.path, write.body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _code(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "without a code"
