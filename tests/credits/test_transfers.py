"""Users send credits to each other, exactly once, and never more than they have."""

from typing import Any
from uuid import UUID

import pytest

from app.credits.values import ISSUANCE_ID, REVENUE_ID
from app.platform import ids
from tests.client import Client, new_key

TRANSFERS = "/api/v1/credits/transfers"
BALANCE = "/api/v1/credits/balance"
MOST = 2**53 - 1


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
    refused = send(client, sender, recipient.id, 1)
    assert refused.status_code == 402
    (count,) = sql("SELECT count(*) FROM audit_events WHERE actor_id = :id", id=sender.id)[0]
    (transfers,) = sql("SELECT count(*) FROM transfers WHERE actor_id = :id", id=sender.id)[0]
    events = sql(
        "SELECT count(*) FROM audit_events WHERE actor_id = :id AND action LIKE 'credits.%'",
        id=sender.id,
    )[0][0]
    assert (events, transfers) == (1, 1)
    assert count >= events


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


def test_credits_that_are_held_cannot_be_spent(client: Client, make_user: Any, sql: Any) -> None:
    sender, recipient = make_user(credits=100), make_user()
    sql("UPDATE accounts SET held = 80 WHERE id = :id", id=sender.id)
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
    sql("UPDATE users SET status = :status WHERE id = :id", status=status, id=recipient.id)
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


@pytest.mark.parametrize(
    "amount", [0, -1, 1.5, 5.0, "5", "five", True, None, [], {}, 2**53, 2**63, -(2**63), 10**40]
)
def test_an_amount_is_a_whole_number_in_range(
    client: Client, make_user: Any, amount: object
) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, make_user().id, amount)
    assert (answer.status_code, code(answer)) == (422, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {"amount"}
    assert available(client, sender) == 100


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e400", "01", "1_0", "0x1"])
def test_an_amount_that_is_no_json_number_is_refused(
    client: Client, make_user: Any, amount: str
) -> None:
    sender = make_user(credits=100)
    body = f'{{"to_user_id": "{make_user().id}", "amount": {amount}}}'
    answer = client.post(
        TRANSFERS,
        data=body.encode(),
        headers={"Content-Type": "application/json"},
        token=sender.token,
        key=new_key(),
    )
    assert answer.status_code in (400, 422)
    assert available(client, sender) == 100


@pytest.mark.parametrize(
    "more",
    [
        {"to_user_id": "not-an-id"},
        {"to_user_id": 7},
        {"to_user_id": None},
        {"memo": ""},
        {"memo": "x" * 501},
        {"memo": 5},
        {"memo": ["x"]},
        {"memo": "nul\x00"},
        {"memo": "lone \ud800"},
        {"from_user_id": str(ids.new())},
        {"kind": "grant"},
    ],
)
def test_a_body_that_breaks_the_contract_is_refused(
    client: Client, make_user: Any, more: dict[str, object]
) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, make_user().id, more=more)
    assert answer.status_code in (400, 422)
    assert available(client, sender) == 100


def test_a_memo_may_be_as_long_as_promised(client: Client, make_user: Any) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, make_user().id, more={"memo": "👛" * 500})
    assert answer.status_code == 201
    assert answer.json["memo"] == "👛" * 500


def test_fields_that_are_missing_are_named(client: Client, make_user: Any) -> None:
    answer = client.post(TRANSFERS, json={}, token=make_user().token, key=new_key())
    assert answer.status_code == 422
    assert set(answer.json["error"]["details"]) == {"to_user_id", "amount"}


@pytest.mark.parametrize("query", ["dry_run=yes", "dry_run=1", "dryrun=true", "dry_run="])
def test_a_query_that_breaks_the_contract_is_refused(
    client: Client, make_user: Any, query: str
) -> None:
    sender = make_user(credits=100)
    answer = send(client, sender, make_user().id, query_string=query)
    assert answer.status_code == 422
    assert available(client, sender) == 100


def test_without_a_token_nothing_is_looked_at(client: Client) -> None:
    answer = client.post(TRANSFERS, json={"amount": "five"})
    assert (answer.status_code, code(answer)) == (401, "UNAUTHENTICATED")


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
