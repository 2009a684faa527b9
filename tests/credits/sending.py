"""Sends credits over HTTP, and looks at what came of it."""

from typing import Any
from uuid import UUID

from tests.client import Client, new_key

TRANSFERS = "/api/v1/credits/transfers"
BALANCE = "/api/v1/credits/balance"


def send(client: Client, sender: Any, recipient_id: UUID, amount: Any = 30, **options: Any) -> Any:
    """Send credits with a new key, unless `key` says otherwise."""
    body = {"to_user_id": str(recipient_id), "amount": amount} | options.pop("more", {})
    options.setdefault("key", new_key())
    return client.post(TRANSFERS, json=body, token=sender.token, **options)


def available(client: Client, user: Any) -> int:
    """Return what the user can spend."""
    return int(client.get(BALANCE, token=user.token).json["available"])


def code(answer: Any) -> str:
    """Return the error code of an answer."""
    return str(answer.json["error"]["code"])
