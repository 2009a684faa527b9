"""Makes users with the product's own functions, so that no test stands on an impossible state."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid4

from flask import Flask

from app.auth import service as auth
from app.credits import service as credits_service
from app.platform.actor import Actor
from app.platform.db import transaction
from app.users import passwords
from app.users import service as users
from tests import canaries

PASSWORD = "a-Long-enough-Passphrase"


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
    app: Flask, *, credits: int = 0, roles: Iterable[str] = (), name: str = "Test User"
) -> TestUser:
    """Return a new signed-in user who holds `credits` and, beyond `user`, `roles`."""
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
