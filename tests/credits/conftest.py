"""Books with two users and three transfers, for the tests that meddle with them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from app.credits import service
from app.credits.values import ISSUANCE_ID, REVENUE_ID
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction


@pytest.fixture
def books(make_user: Callable[..., Any]) -> dict[str, Any]:
    """Two users with a grant each, and a transfer of 30 from Alice (100) to Bob (50).

    The ids of all that, and two that are of nothing yet, by the names that statements use.
    """
    alice, bob = make_user(credits=100).id, make_user(credits=50).id
    with transaction() as session:
        made = service.transfer(
            session, actor=Actor(kind="user", user_id=alice), to_user_id=bob, amount=30, memo=None
        )
    with reading() as connection:
        debit, credit = connection.scalars(
            text("SELECT id FROM entries WHERE transfer_id = :id ORDER BY amount"), {"id": made.id}
        )
    return {
        "alice": alice,
        "bob": bob,
        "transfer": made.id,
        "debit": debit,
        "credit": credit,
        "new": ids.new(),
        "new2": ids.new(),
        "issuance": ISSUANCE_ID,
        "revenue": REVENUE_ID,
    }
