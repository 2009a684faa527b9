"""What the tests of signing in begin with."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.auth.refreshing import sign_in
from tests.client import Client
from tests.people import TestUser


@pytest.fixture
def signed_in(client: Client, make_user: Callable[..., TestUser]) -> dict[str, Any]:
    """The tokens of a user who has just signed in, and the user's id."""
    user = make_user()
    return {**sign_in(client, user), "user_id": str(user.id)}


@pytest.fixture
def support(make_user: Callable[..., TestUser]) -> TestUser:
    """A signed-in user who may suspend others."""
    return make_user(roles=("support",))
