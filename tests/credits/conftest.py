"""TEMPORARY."""

import pytest
from types import SimpleNamespace
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import transaction
from app.users import service as users
from app.credits import service as credits


@pytest.fixture
def make_user(pool):
    def make(*, credits_=0, roles=(), **kw):
        amount = kw.get("credits", 0)
        system = Actor(kind="system")
        with transaction() as session:
            user = users.create_user(
                session,
                email=f"{ids.new()}@example.com",
                name="N",
                password_hash="x",
                roles=roles,
                actor=system,
            )
        if amount:
            with transaction() as session:
                credits.grant(session, actor=system, user_id=user.id, amount=amount, memo="Start")
        return SimpleNamespace(id=user.id)

    return make
