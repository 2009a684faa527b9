"""Staff looks at a user's credits."""

from typing import Any
from uuid import uuid4

from tests.client import Client
from tests.credits.sending import send


def test_balance_and_latest_entries_are_one_look(client: Client, make_user: Any) -> None:
    user, support = make_user(credits=100), make_user(roles=("support",))
    send(client, user, support.id, 30)
    found = client.get(f"/api/v1/users/{user.id}/credits", token=support.token)
    assert found.status_code == 200
    assert found.headers["Cache-Control"] == "no-store"
    own = client.get("/api/v1/credits/entries", token=user.token).json["items"]
    assert found.json == {"balance": 70, "held": 0, "available": 70, "entries": own}
    assert [entry["amount"] for entry in own] == [-30, 100]


def test_nobody_has_no_credits(client: Client, make_user: Any) -> None:
    support = make_user(roles=("support",))
    assert client.get(f"/api/v1/users/{uuid4()}/credits", token=support.token).status_code == 404
