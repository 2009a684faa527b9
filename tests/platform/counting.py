"""Keyed requests whose work is to count, and so tells how often it was done."""

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.platform import ids
from app.platform.actor import Actor
from app.platform.idempotency import Answer, Keyed, once


def keyed(key: str | None = "k", content: bytes = b"what is asked") -> Keyed:
    """Return a request whose refusals are the error's code."""
    return Keyed(
        key=key,
        content=content,
        refuse=lambda error: Answer(status=error.status, body=error.code.encode()),
    )


class Counter:
    """Counts how often the work was done."""

    def __init__(self) -> None:
        """Start at nothing, for a user of its own."""
        self.actor = Actor(kind="user", user_id=ids.new())
        self.runs = 0
        self.lock = threading.Lock()

    def work(self, session: Session) -> int:
        """Count one run; the number is what the answer says."""
        session.execute(text("SELECT 1"))
        with self.lock:
            self.runs += 1
            return self.runs

    def run(
        self,
        request: Keyed,
        work: Callable[[Session], Any] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> Answer:
        """Do it once."""
        return once(
            actor=self.actor,
            request=request,
            prepare=prepare,
            work=work or self.work,
            respond=lambda n: Answer(status=201, body=str(n).encode(), location="/x", etag='"1"'),
        )
