"""A client that lost an answer asks what has become of its key."""

from typing import Any
from uuid import uuid4

from app.platform.actor import Actor
from app.platform.errors import IdempotencyInProgress
from app.platform.idempotency import Answer, Keyed, once
from tests.client import Client, new_key

STATUS = "/api/v1/idempotency"
TRANSFERS = "/api/v1/credits/transfers"
UNKNOWN = {"status": "unknown", "http_status": None, "location": None}


def ask(client: Client, user: Any, key: str | None) -> Any:
    return client.get(STATUS, token=user.token, key=key)


def test_a_key_that_was_never_used_is_unknown(client: Client, make_user: Any) -> None:
    answer = ask(client, make_user(), new_key())
    assert (answer.status_code, answer.json) == (200, UNKNOWN)


def test_a_completed_key_says_how_it_went(client: Client, make_user: Any) -> None:
    ada, bob, key, poor = make_user(credits=10), make_user(), new_key(), new_key()
    body = {"to_user_id": str(bob.id), "amount": 10}
    made = client.post(TRANSFERS, json=body, token=ada.token, key=key)
    assert ask(client, ada, key).json == {
        "status": "completed", "http_status": 201, "location": made.headers["Location"],
    }  # fmt: skip
    client.post(TRANSFERS, json=body, token=ada.token, key=poor)
    assert ask(client, ada, poor).json == UNKNOWN | {"status": "completed", "http_status": 402}
    # Keys belong to their user.
    assert ask(client, bob, key).json == UNKNOWN


def test_what_may_be_tried_again_is_unknown(client: Client, make_user: Any) -> None:
    user, key = make_user(credits=10), new_key()
    body = {"to_user_id": str(user.id), "amount": 1}
    assert client.post(TRANSFERS, json=body, token=user.token, key=key).status_code == 422
    assert ask(client, user, key).json == UNKNOWN


def test_a_running_request_is_in_progress_and_asking_does_not_hinder_it(
    client: Client, make_user: Any
) -> None:
    user, key = make_user(), f"{uuid4()}"
    seen = []

    def refuse(_error: Any) -> Answer:
        raise IdempotencyInProgress

    done = once(
        actor=Actor(kind="user", user_id=user.id),
        request=Keyed(key=key, content=b"x", refuse=refuse),
        work=lambda session: seen.append(ask(client, user, key).json),
        respond=lambda _: Answer(status=204, body=b""),
    )
    assert done.status == 204
    assert seen == [UNKNOWN | {"status": "in_progress"}]
    assert ask(client, user, key).json == UNKNOWN | {"status": "completed", "http_status": 204}


def test_a_key_is_needed(client: Client, make_user: Any) -> None:
    user = make_user()
    answer = ask(client, user, None)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "IDEMPOTENCY_KEY_REQUIRED")
    assert ask(client, user, "a b").json["error"]["code"] == "BAD_REQUEST"
