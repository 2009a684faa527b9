"""Users send credits to each other, exactly once, and never more than they have."""

from typing import Any
from uuid import UUID

import pytest

from app.credits.values import ISSUANCE_ID, REVENUE_ID
from app.platform import ids
from tests.client import Client, new_key
from tests.credits.sending import BALANCE, TRANSFERS, available, code, send
from tests.people import SET_STATUS

MOST = 2**53 - 1


def test_a_transfer_moves_credits_from_one_user_to_another(
    client: Client, make_user: Any, sql: Any
) -> None:
    sender, recipient = make_user(credits=100), make_user(credits=5)
    answer = send(client, sender, recipient.id, 30, more={"memo": "Lunch, 昼食"})
    assert answer.status_code == 201
    made = dict(answer.json)
    assert answer.headers["Location"] == f"{TRANSFERS}/{made['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert made.pop("created_at").endswith("Z")
    assert UUID(made.pop("id")).version == 7
    assert made == {
        "kind": "transfer",
        "from_user_id": str(sender.id),
        "to_user_id": str(recipient.id),
        "amount": 30,
        "memo": "Lunch, 昼食",
        "reverses_id": None,
        "order_id": None,
    }
    assert available(client, sender) == 70
    assert available(client, recipient) == 35
    posted = sql(
        "SELECT account_id, seq, amount, balance_after FROM entries WHERE transfer_id = :id"
        " ORDER BY amount",
        id=answer.json["id"],
    )
    assert [tuple(row) for row in posted] == [
        (sender.id, 2, -30, 70),
        (recipient.id, 2, 30, 35),
    ]


def test_a_transfer_knows_who_asked_and_in_which_request(
    client: Client, make_user: Any, sql: Any
) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, make_user().id, headers={"X-Request-Id": "who-asked-1"})
    (row,) = sql(
        "SELECT actor_id, actor_kind, request_id, memo FROM transfers WHERE id = :id",
        id=answer.json["id"],
    )
    assert tuple(row) == (sender.id, "user", "who-asked-1", None)


def test_a_transfer_and_its_audit_event_are_there_together(
    client: Client, make_user: Any, sql: Any
) -> None:
    sender, recipient = make_user(credits=10), make_user()
    made = send(client, sender, recipient.id, 10).json
    (event,) = sql(
        "SELECT action, actor_id, subject_type, details FROM audit_events WHERE subject_id = :id",
        id=made["id"],
    )
    assert tuple(event) == (
        "credits.transfer.created",
        sender.id,
        "transfer",
        {"to_user_id": str(recipient.id), "amount": 10},
    )


def test_a_refused_transfer_leaves_no_trace_in_books_and_audit(
    client: Client, make_user: Any, sql: Any
) -> None:
    sender = make_user()
    assert send(client, sender, make_user().id).status_code == 402
    for table, action in (("transfers", ""), ("audit_events", "AND action LIKE 'credits.%'")):
        query = f"SELECT count(*) FROM {table} WHERE actor_id = :id {action}"
        assert sql(query, id=sender.id)[0][0] == 0


def test_a_repeat_gets_the_first_answer_and_moves_nothing(client: Client, make_user: Any) -> None:
    sender, recipient, key = make_user(credits=100), make_user(), new_key()
    first = send(client, sender, recipient.id, key=key)
    again = send(client, sender, recipient.id, key=key)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert available(client, sender) == 70


def test_a_key_is_good_for_one_request_only(client: Client, make_user: Any) -> None:
    sender, recipient, key = make_user(credits=100), make_user(), new_key()
    assert send(client, sender, recipient.id, 30, key=key).status_code == 201
    other = send(client, sender, recipient.id, 31, key=key)
    assert (other.status_code, code(other)) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert available(client, sender) == 70


def test_a_transfer_without_a_key_is_refused(client: Client, make_user: Any) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, make_user().id, key=None)
    assert (answer.status_code, code(answer)) == (400, "IDEMPOTENCY_KEY_REQUIRED")
    assert available(client, sender) == 100


def test_a_user_cannot_spend_more_than_the_account_holds(client: Client, make_user: Any) -> None:
    sender, recipient = make_user(credits=100), make_user()
    answer = send(client, sender, recipient.id, 101)
    assert (answer.status_code, code(answer)) == (402, "INSUFFICIENT_CREDITS")
    assert answer.json["error"]["details"] == {"available": 100, "required": 101}
    assert (available(client, sender), available(client, recipient)) == (100, 0)
    assert send(client, sender, recipient.id, 100).status_code == 201
    assert (available(client, sender), available(client, recipient)) == (0, 100)


def test_a_refusal_is_stored_and_a_new_key_helps_after_a_top_up(
    client: Client, make_user: Any
) -> None:
    sender, recipient, key = make_user(), make_user(credits=50), new_key()
    refused = send(client, sender, recipient.id, key=key)
    assert send(client, recipient, sender.id, 50).status_code == 201
    again = send(client, sender, recipient.id, key=key)
    assert (again.status_code, again.data) == (402, refused.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert send(client, sender, recipient.id).status_code == 201


def test_credits_that_are_held_cannot_be_spent(client: Client, make_user: Any) -> None:
    sender, recipient = make_user(credits=100), make_user()
    client.post("/api/v1/credits/holds", json={"amount": 80}, token=sender.token, key=new_key())
    balance = client.get(BALANCE, token=sender.token).json
    assert balance == {"balance": 100, "held": 80, "available": 20}
    answer = send(client, sender, recipient.id, 21)
    assert answer.json["error"]["details"] == {"available": 20, "required": 21}
    assert send(client, sender, recipient.id, 20).status_code == 201


@pytest.mark.parametrize("nobody", [ids.new(), ISSUANCE_ID, REVENUE_ID])
def test_nobody_and_house_accounts_cannot_be_sent_to(
    client: Client, make_user: Any, nobody: UUID
) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, nobody)
    assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")
    assert available(client, sender) == 100


@pytest.mark.parametrize("status", ["deleting", "erased"])
def test_a_user_who_is_going_cannot_be_sent_to(
    client: Client, make_user: Any, sql: Any, status: str
) -> None:
    sender, recipient = make_user(credits=100), make_user()
    sql(SET_STATUS, status=status, id=recipient.id)
    answer = send(client, sender, recipient.id)
    assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")
    assert available(client, sender) == 100


def test_a_suspended_user_still_receives(client: Client, make_user: Any, sql: Any) -> None:
    sender, recipient = make_user(credits=100), make_user()
    sql("UPDATE users SET status = 'suspended' WHERE id = :id", id=recipient.id)
    assert send(client, sender, recipient.id).status_code == 201
    assert sql("SELECT balance FROM accounts WHERE id = :id", id=recipient.id)[0][0] == 30


def test_nobody_sends_to_themself(client: Client, make_user: Any) -> None:
    sender, key = make_user(credits=100), new_key()
    answer = send(client, sender, sender.id, key=key)
    assert (answer.status_code, code(answer)) == (422, "SELF_TRANSFER")
    assert available(client, sender) == 100
    # A broken rule of the request isn't stored: the corrected request may keep its key.
    assert send(client, sender, make_user().id, key=key).status_code == 201


def test_an_account_holds_no_more_than_a_number_can_say(client: Client, make_user: Any) -> None:
    sender, recipient = make_user(credits=1), make_user(credits=MOST)
    answer = send(client, sender, recipient.id, 1)
    assert (answer.status_code, code(answer)) == (409, "BALANCE_LIMIT")
    assert available(client, sender) == 1
    assert send(client, recipient, sender.id, MOST - 1).status_code == 201
    assert available(client, sender) == MOST


def test_a_dry_run_answers_like_a_transfer_and_leaves_nothing_behind(
    client: Client, make_user: Any, sql: Any
) -> None:
    sender, recipient, key = make_user(credits=100), make_user(), new_key()
    tried = send(client, sender, recipient.id, query_string="dry_run=true", key=key)
    assert tried.status_code == 200
    assert "Location" not in tried.headers
    for table, column in (("transfers", "id"), ("audit_events", "subject_id")):
        found = sql(f"SELECT 1 FROM {table} WHERE {column} = :id", id=tried.json["id"])
        assert list(found) == []
    assert available(client, sender) == 100
    # The key wasn't claimed: it is still good for the real thing.
    made = send(client, sender, recipient.id, key=key)
    assert made.status_code == 201
    assert set(made.json) == set(tried.json)
    ours = {"id", "created_at"}
    assert {k: v for k, v in made.json.items() if k not in ours} == {
        k: v for k, v in tried.json.items() if k not in ours
    }


def test_a_dry_run_needs_no_key_and_is_refused_like_a_transfer(
    client: Client, make_user: Any
) -> None:
    sender, recipient = make_user(credits=100), make_user(credits=MOST)

    def refused(recipient_id: UUID, amount: int) -> tuple[int, str]:
        answer = send(client, sender, recipient_id, amount, query_string="dry_run=true", key=None)
        return answer.status_code, code(answer)

    assert refused(recipient.id, 101) == (402, "INSUFFICIENT_CREDITS")
    assert refused(ids.new(), 1) == (404, "NOT_FOUND")
    assert refused(recipient.id, 1) == (409, "BALANCE_LIMIT")
    assert refused(sender.id, 1) == (422, "SELF_TRANSFER")
    assert available(client, sender) == 100
