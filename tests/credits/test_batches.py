"""Several transfers of one sender: all of them, or none."""

from typing import Any
from uuid import uuid4

import pytest

from app.credits import verification
from app.credits.values import MAX_BATCH
from tests.client import Client, new_key
from tests.credits.sending import TRANSFERS, available, code

BATCH = f"{TRANSFERS}/batch"


def send_all(client: Client, sender: Any, *sent: tuple[Any, int], **options: Any) -> Any:
    body = {"transfers": [{"to_user_id": str(to), "amount": amount} for to, amount in sent]}
    options.setdefault("key", new_key())
    return client.post(BATCH, json=body, token=sender.token, **options)


def test_all_are_made_in_the_order_asked_for(client: Client, make_user: Any, sql: Any) -> None:
    sender, ada, bob = make_user(credits=100), make_user(), make_user()
    answer = send_all(client, sender, (bob.id, 10), (ada.id, 20), (bob.id, 30))
    assert answer.status_code == 201
    items = answer.json["items"]
    assert [(item["to_user_id"], item["amount"]) for item in items] == [
        (str(bob.id), 10), (str(ada.id), 20), (str(bob.id), 30),
    ]  # fmt: skip
    assert [available(client, user) for user in (sender, ada, bob)] == [40, 20, 40]
    entries = client.get("/api/v1/credits/entries", token=sender.token).json["items"]
    assert [entry["transfer_id"] for entry in entries[:3]] == [item["id"] for item in items[::-1]]
    events = sql(
        "SELECT subject_id, details ->> 'amount' FROM audit_events"
        " WHERE actor_id = :id AND action = 'credits.transfer.created'",
        id=sender.id,
    )
    assert {(str(subject), int(amount)) for subject, amount in events} == {
        (item["id"], item["amount"]) for item in items
    }
    assert client.get(f"{TRANSFERS}/{items[0]['id']}", token=bob.token).json == items[0]
    assert list(verification.verify()) == []


def test_a_repeat_gets_the_same_answer(client: Client, make_user: Any) -> None:
    sender, ada, key = make_user(credits=100), make_user(), new_key()
    first = send_all(client, sender, (ada.id, 10), key=key)
    again = send_all(client, sender, (ada.id, 10), key=key)
    assert again.data == first.data
    assert again.headers["Idempotent-Replayed"] == "true"
    assert available(client, ada) == 10


def test_too_much_in_all_is_refused_as_a_whole(client: Client, make_user: Any) -> None:
    sender, ada, bob = make_user(credits=100), make_user(), make_user()
    refused = send_all(client, sender, (ada.id, 60), (bob.id, 41))
    assert (refused.status_code, code(refused)) == (402, "INSUFFICIENT_CREDITS")
    assert refused.json["error"]["details"] == {"available": 100, "required": 101}
    assert [available(client, user) for user in (sender, ada, bob)] == [100, 0, 0]


def test_which_one_is_refused_is_said(client: Client, make_user: Any) -> None:
    sender, ada = make_user(credits=100), make_user()
    for other, status, expected in ((uuid4(), 404, "NOT_FOUND"), (sender.id, 422, "SELF_TRANSFER")):
        refused = send_all(client, sender, (ada.id, 1), (other, 1))
        assert (refused.status_code, code(refused)) == (status, expected)
        assert list(refused.json["error"]["details"]) == ["transfers.1.to_user_id"]
        assert available(client, ada) == 0


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ([], "transfers"),
        ([(uuid4(), 1)] * (MAX_BATCH + 1), "transfers"),
        ([(uuid4(), 1), (uuid4(), 0)], "transfers.1.amount"),
    ],
)
def test_a_wrong_field_is_named(client: Client, make_user: Any, sent: Any, field: str) -> None:
    refused = send_all(client, make_user(credits=1), *sent)
    assert refused.status_code == 422
    assert list(refused.json["error"]["details"]) == [field]


def test_the_largest_batch_is_made(client: Client, make_user: Any) -> None:
    sender, others = make_user(credits=MAX_BATCH), [make_user().id for _ in range(3)]
    sent = [(others[number % 3], 1) for number in range(MAX_BATCH)]
    assert send_all(client, sender, *sent).status_code == 201
    assert available(client, sender) == 0
