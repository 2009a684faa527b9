"""Changes names and addresses as a client does, and follows the mails of a change."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import Row
from werkzeug.test import TestResponse

from tests.auth.refreshing import ME
from tests.client import Client
from tests.mailing import Mail, Postman
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
VERIFY = "/api/v1/auth/email/verify"
UNDO = "/api/v1/auth/undo"
RESET = "/api/v1/auth/password/reset"


def new_address() -> str:
    """Return an address that nobody has."""
    return f"{uuid4().hex}@example.org"


def change(client: Client, user: TestUser, **options: Any) -> TestResponse:
    """Change name or address as the user does, with `key`, `headers` or another `token`."""
    names = ("key", "headers", "token")
    sent = {name: options.pop(name) for name in names if name in options}
    return client.patch(ME, json=options, **{"token": user.token} | sent)


def follow(client: Client, path: str, mail: Mail) -> TestResponse:
    """Send the token of a mail's link."""
    return client.post(path, json={"token": mail.token})


def moved(client: Client, postman: Postman, user: TestUser, email: str) -> Mail:
    """Change a user's address as who has the new mailbox, and return the old one's notice."""
    assert change(client, user, email=email).status_code == 200
    arrived = {mail.kind: mail for mail in postman.deliver(user_id=user.id, email=email)}
    notices = postman.deliver(user_id=user.id, email=user.email)
    assert follow(client, VERIFY, arrived["change"]).status_code == 204
    return next(mail for mail in notices if mail.kind == "change_notice")


def events(sql: Sql, user: TestUser) -> list[tuple[str, dict[str, Any]]]:
    """Return what was recorded about a user, with its personal part."""
    rows = sql(
        "SELECT action, details, convert_from(data, 'UTF8')::jsonb AS personal"
        " FROM audit_events LEFT JOIN audit_personal ON event_id = id"
        " WHERE audit_events.subject_id = :id ORDER BY audit_events.created_at, id",
        id=user.id,
    )
    return [(row.action, row.personal) for row in rows]
