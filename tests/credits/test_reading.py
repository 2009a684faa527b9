"""Users see their own balance, entries and transfers; staff sees transfers of all."""

from datetime import timedelta
from typing import Any

import pytest

from app.platform import clock, ids
from tests.client import Client, new_key

CREDITS = "/api/v1/credits"
# A fixed id, because parallel test processes must name their tests alike.
NOBODY = "00000000-0000-7000-8000-000000000000"


def send(client: Client, sender: Any, recipient: Any, amount: int, memo: str | None = None) -> Any:
    """Send credits and return the transfer."""
    body = {"to_user_id": str(recipient.id), "amount": amount, "memo": memo}
    answer = client.post(f"{CREDITS}/transfers", json=body, token=sender.token, key=new_key())
    assert answer.status_code == 201
    return answer.json


def entries(client: Client, user: Any, **query: Any) -> Any:
    """Return a page of the user's entries."""
    answer = client.get(f"{CREDITS}/entries", token=user.token, query_string=query)
    assert answer.status_code == 200
    return answer.json


def test_a_new_user_has_an_empty_account(client: Client, make_user: Any) -> None:
    user = make_user()
    answer = client.get(f"{CREDITS}/balance", token=user.token)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json == {"balance": 0, "held": 0, "available": 0}
    assert entries(client, user) == {"items": [], "next_cursor": None}


def test_entries_show_each_movement_with_its_sign_and_the_balance_after_it(
    client: Client, make_user: Any
) -> None:
    user, other = make_user(credits=100), make_user()
    sent = send(client, user, other, 30, "Lunch")
    returned = send(client, other, user, 10)
    items = entries(client, user)["items"]
    assert [(one["kind"], one["amount"], one["balance_after"]) for one in items] == [
        ("transfer", 10, 80),
        ("transfer", -30, 70),
        ("grant", 100, 100),
    ]
    assert [one["transfer_id"] for one in items[:2]] == [returned["id"], sent["id"]]
    assert (items[1]["memo"], items[0]["memo"]) == ("Lunch", None)
    assert items[1]["created_at"] == sent["created_at"]
    assert set(items[0]) == {
        "id", "transfer_id", "kind", "amount", "balance_after", "memo", "created_at",
    }  # fmt: skip
    (received,) = [one for one in entries(client, other)["items"] if one["amount"] == 30]
    assert received["transfer_id"] == sent["id"]
    assert received["id"] != items[1]["id"]


def test_entries_come_in_the_order_of_the_account_whatever_their_ids_and_times_say(
    client: Client, make_user: Any, time_machine: Any
) -> None:
    user, other, start = make_user(credits=100), make_user(), clock.now()
    # A clock that is set back, as of a machine that was ahead of the others.
    time_machine.move_to(start + timedelta(seconds=60))
    send(client, user, other, 1)
    time_machine.move_to(start + timedelta(seconds=30))
    send(client, user, other, 2)
    items = entries(client, user)["items"]
    assert [one["amount"] for one in items] == [-2, -1, 100]
    assert items[0]["created_at"] < items[1]["created_at"]


def test_a_cursor_walks_all_entries_once(client: Client, make_user: Any) -> None:
    user, other = make_user(credits=100), make_user()
    for amount in range(1, 7):
        send(client, user, other, amount)
    seen, cursor = [], None
    for _ in range(4):
        page = entries(client, user, per_page=2, **({"cursor": cursor} if cursor else {}))
        seen += [one["amount"] for one in page["items"]]
        cursor = page["next_cursor"]
        # What arrives meanwhile stands above the cursor and moves nothing.
        send(client, user, other, 10)
    assert seen == [-6, -5, -4, -3, -2, -1, 100]
    assert cursor is None


def test_pages_can_be_counted(client: Client, make_user: Any) -> None:
    user, other = make_user(credits=100), make_user()
    for amount in (1, 2, 3):
        send(client, user, other, amount)
    second = entries(client, user, per_page=2, page=2)
    assert [one["amount"] for one in second["items"]] == [-1, 100]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("query", ["per_page=0", "per_page=x", "cursor=x", "page=0", "kind=grant"])
def test_a_list_query_that_breaks_the_contract_is_refused(
    client: Client, make_user: Any, query: str
) -> None:
    answer = client.get(f"{CREDITS}/entries", token=make_user().token, query_string=query)
    assert answer.status_code == 422


def test_a_cursor_is_of_no_use_to_another_user(client: Client, make_user: Any) -> None:
    user, other = make_user(credits=100), make_user(credits=100)
    send(client, user, other, 1)
    cursor = entries(client, user, per_page=1)["next_cursor"]
    answer = client.get(
        f"{CREDITS}/entries", token=other.token, query_string={"cursor": cursor, "per_page": 1}
    )
    assert answer.status_code == 422


def test_both_parties_and_staff_see_a_transfer(client: Client, make_user: Any) -> None:
    sender, recipient = make_user(credits=100), make_user()
    made = send(client, sender, recipient, 30, "Lunch")
    staff = [make_user(roles=(role,)) for role in ("support", "finance", "service", "admin")]
    for reader in (sender, recipient, *staff):
        answer = client.get(f"{CREDITS}/transfers/{made['id']}", token=reader.token)
        assert answer.status_code == 200
        assert answer.json == made
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_strangers_transfer_looks_like_one_that_does_not_exist(
    client: Client, make_user: Any
) -> None:
    made = send(client, make_user(credits=100), make_user(), 30)
    stranger = make_user(credits=100)
    answers = [
        client.get(f"{CREDITS}/transfers/{wanted}", token=stranger.token).json["error"]
        for wanted in (made["id"], ids.new())
    ]
    for error in answers:
        error.pop("request_id")
        assert error["code"] == "NOT_FOUND"
    assert answers[0] == answers[1]


def test_a_grant_is_seen_by_its_user_and_hides_the_house_account(
    client: Client, make_user: Any
) -> None:
    user = make_user(credits=100)
    (entry,) = entries(client, user)["items"]
    grant = client.get(f"{CREDITS}/transfers/{entry['transfer_id']}", token=user.token).json
    assert (grant["kind"], grant["from_user_id"], grant["to_user_id"]) == (
        "grant",
        None,
        str(user.id),
    )


def test_a_malformed_id_is_not_found_also_without_a_token(client: Client, make_user: Any) -> None:
    for token in (None, make_user().token):
        answer = client.get(f"{CREDITS}/transfers/not-an-id", token=token)
        assert answer.status_code == 404


@pytest.mark.parametrize("path", ["balance", "entries", f"transfers/{NOBODY}"])
def test_reading_needs_a_token(client: Client, path: str) -> None:
    answer = client.get(f"{CREDITS}/{path}")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", ["balance", f"transfers/{NOBODY}"])
def test_reading_takes_no_unknown_query(client: Client, make_user: Any, path: str) -> None:
    answer = client.get(f"{CREDITS}/{path}?verbose=1", token=make_user().token)
    assert answer.status_code == 422
