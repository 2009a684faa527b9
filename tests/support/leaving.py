"""Has users deleted as a client does, and moves the clock past what can be undone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import time_machine
from sqlalchemy import Row

from app.platform import clock
from app.support.values import UNDOABLE
from tests.client import Client
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
ME = "/api/v1/users/me"
UNDO = "/api/v1/auth/undo"


def leave(client: Client, user: TestUser, **options: Any) -> Any:
    """Ask for one's own deletion; `more` goes into the body."""
    body = {"password": user.password} | options.pop("more", {})
    return client.delete(ME, token=options.pop("token", user.token), json=body, **options)


def let_go(client: Client, staff: TestUser, user: TestUser, **options: Any) -> Any:
    """Have a user deleted by staff; `more` is the body."""
    return client.delete(
        f"/api/v1/users/{user.id}", token=staff.token, json=options.pop("more", {}), **options
    )


def undo(client: Client, token: str | None) -> Any:
    return client.post(UNDO, json={"token": token})


def status_of(sql: Sql, user: TestUser) -> tuple[str, bool]:
    """Return a user's status, and whether the row says since when they are being deleted."""
    ((status, since),) = sql("SELECT status, deleting_since FROM users WHERE id = :id", id=user.id)
    return status, since is not None


def past_undo() -> time_machine.travel:
    """Move the clock to when a deletion that begins now can't be undone any more."""
    return time_machine.travel(clock.now() + UNDOABLE + timedelta(minutes=1), tick=False)


def balance_of(sql: Sql, user: TestUser) -> int:
    ((balance,),) = sql("SELECT balance FROM accounts WHERE id = :id", id=user.id)
    return int(balance)
