"""Makes users with the product's own functions, so that no test stands on an impossible state."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from flask import Flask

from app.auth import api_keys
from app.auth import service as auth
from app.credits import service as credits_service
from app.platform.actor import Actor
from app.platform.db import transaction
from app.users import passwords
from app.users import service as users
from app.users.values import PERMISSIONS
from tests import canaries

PASSWORD = "a-Long-enough-Passphrase"
# In plain SQL, for tests of what others do about somebody's status.
SET_STATUS = (
    "UPDATE users SET status = :status, deleting_since ="
    " CASE CAST(:status AS text) WHEN 'deleting' THEN created_at END WHERE id = :id"
)


@dataclass(frozen=True, kw_only=True)
class TestUser:
    """A signed-in user, and what is needed to sign in again."""

    __test__ = False  # Its name begins with Test, and pytest would take it for a group of tests.

    id: UUID
    email: str
    name: str
    password: str
    token: str
    refresh_token: str
    session_id: UUID


def make_user(
    app: Flask,
    *,
    credits: int = 0,
    roles: Iterable[str] = (),
    name: str = "Test User",
    verified: bool = False,
) -> TestUser:
    """Return a new signed-in user who holds `credits` and, beyond `user`, `roles`.

    `verified` says that the address was proven to be the user's.
    """
    email = f"{uuid4().hex}@example.org"
    password_hash = passwords.hash_password(PASSWORD)
    operator = Actor(kind="cli")
    with transaction() as session:
        user = users.create_user(
            session,
            email=email,
            name=name,
            password_hash=password_hash,
            roles=roles,
            actor=operator,
            verified=verified,
        )
        if credits:
            credits_service.grant(
                session, actor=operator, user_id=user.id, amount=credits, memo="For a test"
            )
    # The library that makes access tokens finds its settings in the application.
    with app.app_context():
        tokens = auth.login(email=email, password=PASSWORD, actor=Actor(kind="anonymous"))
    canaries.watch(PASSWORD, tokens.access_token, tokens.refresh_token)
    return TestUser(
        id=user.id,
        email=email,
        name=name,
        password=PASSWORD,
        token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        session_id=tokens.session_id,
    )


def make_api_key(user: TestUser, *scopes: str, **options: Any) -> str:
    """Return the text of a new API key of a signed-in user, who needn't hold the permissions."""
    owner = Actor(kind="user", user_id=user.id, session_id=user.session_id, permissions=PERMISSIONS)
    issued = api_keys.create(
        actor=owner, name="For a test", scopes=scopes, **{"expires_at": None, **options}
    )
    canaries.watch(issued["key"])
    return str(issued["key"])


def id_of_key(text: str) -> UUID:
    """Return the id that an API key's text names."""
    return UUID(text.split("_")[1])
