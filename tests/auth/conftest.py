"""What the tests of signing in begin with."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app.platform import guards
from app.platform.settings import Settings
from tests.auth.refreshing import sign_in
from tests.client import Client
from tests.limiting import SwitchOn, switching
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


@pytest.fixture
def limits(settings: Settings) -> Iterator[SwitchOn]:
    """A function that switches the limits on."""
    with switching(settings) as switch_on:
        yield switch_on


@pytest.fixture
def protected(app: Flask) -> list[tuple[str, str]]:
    """Every operation that takes an access token: its method, and its path with ids of nothing."""
    found = [
        (method, re.sub("<uuid:[a-z_]+>", str(uuid4()), rule.rule))
        for rule in app.url_map.iter_rules()
        if guards.access(app.view_functions[rule.endpoint]) != guards.PUBLIC
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    assert len(found) > 20
    return found
