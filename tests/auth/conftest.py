"""What the tests of signing in begin with."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.client import Client
from tests.people import TestUser


@pytest.fixture
def signed_in(client: Client, make_user: Callable[..., TestUser]) -> dict[str, Any]:
    """The tokens of a user who has just signed in, and the user's id."""
    user = make_user()
    answer = client.post(
        "/api/v1/auth/login", json={"email": user.email, "password": user.password}
    )
    return {**answer.json, "user_id": str(user.id)}
