"""Sends requests at a fixed rate, whatever comes back: a process of its own, without threads.

Waiting for an answer before the next request would hide an overload: a slow server would simply be
asked less. Here a request's time counts from the moment at which it was due, so waiting in line for
a free connection counts too. The plan comes as JSON on standard input, and the
outcome goes out as JSON.
"""

import json
import random
import re
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"
# What has no answer by then never gets one that counts.
PATIENCE_SECONDS = 5.0
# Few enough that all of their tokens have been seen once the load has begun in earnest.
PEOPLE = 500
# A tick is short against every limit that is checked, and long against what sending costs.
TICK_SECONDS = 0.002


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send: `rate` requests a second, or as fast as `connections` take it with 0.

    It ends after `seconds`, or after `number` requests.
    """

    port: int
    kind: str
    people: str
    password: str = ""
    rate: float
    seconds: float
    connections: int
    seed: int = 0
    number: int = 10**9


@dataclass(kw_only=True)
class Outcome:
    """What came back, as (seconds since the start at which it was due, seconds it took)."""

    good: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    # Other statuses, broken connections, refusals without Retry-After and what never came.
    failed: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Return good answers per second, of those that came before the last request was sent."""
        return sum(due + took <= self.seconds for due, took in self.good) / self.seconds


class Connection:
    """One keep-alive connection with at most one request on its way."""

    __slots__ = ("due", "received", "sending", "socket")

    def __init__(self, port: int) -> None:
        """Begin to connect, without waiting for it."""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(("127.0.0.1", port))
        self.due: float | None = None
        self.received = self.sending = b""


class Generator:
    """Follows one plan."""

    def __init__(self, plan: Plan) -> None:
        """Make the requests; nothing is sent yet."""
        self._plan = plan
        self._draw = requests(plan)
        self._poll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._begun = 0.0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Send for as long as the plan says, wait for the last answers, and return what came."""
        plan = self._plan
        self._begun = time.monotonic()
        end = self._begun + plan.seconds
        step = 1 / plan.rate if plan.rate else 0.0
        due = self._begun
        while (now := time.monotonic()) < end and self.outcome.sent < plan.number:
            if plan.rate:
                while due <= now:
                    self._waiting.append(due)
                    due += step
            else:
                idle = plan.connections - (len(self._open) - len(self._free))
                self._waiting.extend([now] * (idle - len(self._waiting)))
            self._send_waiting(now)
            self._receive()
        self.outcome.seconds = time.monotonic() - self._begun
        end = time.monotonic() + PATIENCE_SECONDS
        while self._busy() and time.monotonic() < end:
            self._send_waiting(time.monotonic())
            self._receive()
        if left := self._busy():
            self._fail("no answer", left)
        return self.outcome

    def _busy(self) -> int:
        return len(self._waiting) + sum(each.due is not None for each in self._open.values())

    def _send_waiting(self, now: float) -> None:
        waiting = self._waiting
        while waiting:
            if self._free:
                connection = self._free.pop()
            elif len(self._open) < self._plan.connections:
                connection = self._connect()
            else:
                break
            connection.due = waiting.popleft()
            self.outcome.sent += 1
            self._send(connection, self._draw())
        while waiting and now - waiting[0] > PATIENCE_SECONDS:
            waiting.popleft()
            self._fail("no connection was free for it")

    def _connect(self) -> Connection:
        connection = Connection(self._plan.port)
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        return connection

    def _send(self, connection: Connection, data: bytes) -> None:
        try:
            sent = connection.socket.send(data)
        except (BlockingIOError, OSError) as error:
            # A connection that isn't there yet says EAGAIN or ENOTCONN.
            if not isinstance(error, BlockingIOError) and error.errno not in {107, 115}:
                self._lose(connection, type(error).__name__)
                return
            sent = 0
        connection.sending = data[sent:]
        if connection.sending:
            self._poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _receive(self) -> None:
        # By the clock: to be woken for each answer costs the one who answers.
        time.sleep(TICK_SECONDS)
        for number, event in self._poll.poll(0):
            connection = self._open[number]
            if event & select.EPOLLOUT and connection.sending:
                self._poll.modify(connection.socket, select.EPOLLIN)
                self._send(connection, connection.sending)
            elif event & ~select.EPOLLOUT:
                self._take(connection)

    def _take(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(connection, type(error).__name__)
            return
        if not data:
            self._lose(connection, "closed")
            return
        connection.received += data
        head, ended, body = connection.received.partition(HEAD_END)
        if not ended:
            return
        length = LENGTH.search(head + b"\r\n")
        if length is None or len(body) < int(length[1]):
            return
        connection.received = b""
        self._count(connection, head)
        if b"onnection: close" in head:
            self._drop(connection)
        else:
            self._free.append(connection)

    def _count(self, connection: Connection, head: bytes) -> None:
        due, connection.due = connection.due, None
        if due is None:
            self._fail("answer to nothing")
            return
        took = due - self._begun, time.monotonic() - due
        status = head[9:12]
        if status[:1] == b"2":
            self.outcome.good.append(took)
        elif status in {b"503", b"429"}:
            if b"\r\nretry-after: " not in head.lower():
                self._fail("no Retry-After")
            self.outcome.refused.append(took)
        else:
            self._fail(status.decode())

    def _lose(self, connection: Connection, why: str) -> None:
        """Note a connection that broke; an idle one may be closed at any time."""
        if connection.due is not None:
            self._fail(why)
        elif connection in self._free:
            self._free.remove(connection)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        del self._open[connection.socket.fileno()]
        connection.socket.close()

    def _fail(self, why: str, times: int = 1) -> None:
        self.outcome.failed[why] = self.outcome.failed.get(why, 0) + times


def requests(plan: Plan) -> Callable[[], bytes]:
    """Return what draws the next request of a plan's kind."""
    dice = random.Random(plan.seed)
    lines = [line.split() for line in Path(plan.people).read_text().splitlines()[:PEOPLE]]
    numbers = iter(range(10**9))
    asked = [_request("GET", "/api/v1/users/me", token=line[0]) for line in lines]

    def me() -> bytes:
        return dice.choice(asked)

    def transfer() -> bytes:
        sender, receiver = dice.sample(lines, 2)
        body = {"to_user_id": receiver[2], "amount": 1, "memo": "soak"}
        key = f"{plan.seed}-{next(numbers)}"
        return _request("POST", "/api/v1/credits/transfers", body, token=sender[0], key=key)

    def login() -> bytes:
        body = {"email": dice.choice(lines)[3], "password": plan.password}
        return _request("POST", "/api/v1/auth/login", body)

    def mixed() -> bytes:
        # A thousand logins in a hundred thousand, beside reads and writes.
        drawn = dice.random()
        return login() if drawn < 0.01 else transfer() if drawn < 0.2 else me()

    return {"me": me, "transfer": transfer, "login": login, "mixed": mixed}[plan.kind]


def _request(
    method: str, path: str, body: object = None, *, token: str = "", key: str = ""
) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "User-Agent: soak", "Accept: */*"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Idempotency-Key: {key}"] if key else []
    lines += (
        ["Content-Type: application/json", f"Content-Length: {len(content)}"] if content else []
    )
    return "\r\n".join([*lines, "", ""]).encode() + content


@contextmanager
def started(plan: Plan) -> Iterator[Callable[[], Outcome]]:
    """Run a plan in a process of its own; what is given waits for it and returns the outcome."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield lambda: Outcome(
            **json.loads(process.communicate(json.dumps(asdict(plan)).encode())[0])
        )
    finally:
        process.kill()
        process.wait()


def run(plan: Plan) -> Outcome:
    """Run a plan in a process of its own, and return its outcome."""
    with started(plan) as outcome:
        return outcome()


def main() -> None:
    """Run the plan of standard input."""
    given: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(asdict(Generator(Plan(**given)).run())))


if __name__ == "__main__":
    main()
