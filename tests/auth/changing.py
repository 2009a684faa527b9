"""Changes passwords as a client does, and looks at what is left behind."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from tests.client import Client
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
PASSWORD = "/api/v1/users/me/password"
NEW = "babbage-1837-engine"


def change(client: Client, user: TestUser, *, current: str | None = None, **options: Any) -> Any:
    """Change the password to `new`, as `token` or as the session that the user began with."""
    body = {
        "current_password": current or user.password,
        "new_password": options.pop("new", NEW),
    }
    return client.put(PASSWORD, json=body, token=options.pop("token", user.token), **options)


def events(sql: Sql, user: TestUser) -> list[tuple[str, dict[str, Any]]]:
    """Return what happened to the user since they signed in."""
    rows = sql(
        "SELECT action, details FROM audit_events WHERE subject_id = :id ORDER BY created_at, id",
        id=user.id,
    )
    return [tuple(row) for row in rows][2:]
