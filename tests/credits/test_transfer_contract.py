"""A transfer that breaks the contract is refused, and moves nothing."""

from typing import Any

import pytest

from app.platform import ids
from tests.client import Client, new_key
from tests.credits.sending import TRANSFERS, available, code, send


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
