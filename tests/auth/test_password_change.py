"""Changing one's password: who may, and what ends with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask

from app import configure, create_app
from app.auth import throttling
from app.platform import clock
from app.platform.settings import Settings
from tests import people
from tests.auth.changing import NEW, PASSWORD, Sql, change, events
from tests.auth.refreshing import login, outcome, refresh, use
from tests.client import Client, new_key
from tests.people import TestUser

MakeUser = Callable[..., TestUser]


def test_the_new_password_counts_from_now_on_and_the_old_one_does_not(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    answer = change(client, user)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert outcome(login(client, user)) == (401, "INVALID_CREDENTIALS")
    assert login(client, user, NEW).status_code == 200


def test_it_ends_every_other_login_session_and_keeps_this_one(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user, bystander = make_user(), make_user()
    others = [login(client, user).json for _ in range(2)]
    own = login(client, user).json
    assert change(client, user, token=own["access_token"]).status_code == 204
    for other in others:
        assert use(client, other) == 401
        assert outcome(refresh(client, other)) == (401, "SESSION_REVOKED")
    assert client.get("/api/v1/users/me", token=user.token).status_code == 401
    assert use(client, own) == 200
    assert refresh(client, own).status_code == 200
    assert client.get("/api/v1/users/me", token=bystander.token).status_code == 200
    reasons = sql(
        "SELECT ended_reason, count(*) FROM login_sessions WHERE user_id = :id GROUP BY 1",
        id=user.id,
    )
    assert dict(map(tuple, reasons)) == {"credential": 3, None: 1}


def test_it_is_recorded_and_so_is_a_wrong_guess(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    change(client, user, current="a wrong guess")
    change(client, user)
    login(client, user, NEW)
    change(client, user, current=NEW, new="another-one-1822")
    found = events(sql, user)
    assert [action for action, _ in found] == [
        "auth.credential.refused",
        "auth.credential.changed",
        "auth.session.started",
        "auth.credential.changed",
        "auth.session.ended",
    ]
    assert found[-1][1] == {"reason": "credential", "count": 1}
    log = client.get("/api/v1/users/me/security-log", token=user.token).json["items"]
    by = {item["by"] for item in log if item["action"].startswith("auth.credential.")}
    assert by == {"you"}


def test_without_the_current_password_nothing_changes(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    other = login(client, user).json
    stored = "SELECT password_hash FROM users WHERE id = :id"
    before = sql(stored, id=user.id)
    answer = change(client, user, current="a wrong guess")
    assert outcome(answer) == (401, "INVALID_CREDENTIALS")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert sql(stored, id=user.id) == before
    assert use(client, other) == 200


@pytest.mark.parametrize(
    "new", ["password123", "ada.lovelace-1815@example.net", "ADA.LOVELACE-1815", "Ada Lovelace"]
)
def test_a_password_that_others_would_guess_is_refused(
    client: Client, make_user: MakeUser, sql: Sql, new: str
) -> None:
    user = make_user(name="Ada Lovelace")
    address = "Ada.Lovelace-1815@Example.net"
    sql("UPDATE users SET email = :email WHERE id = :id", email=address, id=user.id)
    assert outcome(change(client, user, new=new)) == (422, "WEAK_PASSWORD")
    assert use(client, {"access_token": user.token}) == 200
    assert login(client, user).status_code == 200


def test_the_password_that_one_has_is_no_new_one(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    assert outcome(change(client, user, new=user.password)) == (422, "WEAK_PASSWORD")
    # Whoever doesn't know it doesn't learn it here.
    guess = "a-wrong-guess-1815"
    assert outcome(change(client, user, current=guess, new=guess)) == (401, "INVALID_CREDENTIALS")


def test_a_password_is_the_same_however_the_keyboard_composes_it(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    assert change(client, user, new="cafe\u0301 au lait 7").status_code == 204
    assert login(client, user, "café au lait 7").status_code == 200
    again = change(client, user, current="café au lait 7", new="cafe\u0301 au lait 7")
    assert outcome(again) == (422, "WEAK_PASSWORD")
    assert change(client, user, current="café au lait 7").status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"current_password": "x"},
        {"new_password": NEW},
        {"current_password": "", "new_password": NEW},
        {"current_password": "x", "new_password": "short-7"},
        {"current_password": "x", "new_password": "x" * 129},
        {"current_password": "x", "new_password": "\ufb03" * 43},
        {"current_password": "x", "new_password": 12345678},
        {"current_password": "x", "new_password": NEW, "user_id": "1"},
    ],
)
def test_a_change_of_the_wrong_shape_is_refused(
    client: Client, make_user: MakeUser, body: dict[str, Any]
) -> None:
    answer = client.put(PASSWORD, json=body, token=make_user().token)
    assert outcome(answer) == (422, "VALIDATION_ERROR")


def test_the_longest_password_counts_to_its_last_character(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    longest = "k" * 127 + "1"
    assert change(client, user, new=longest).status_code == 204
    assert login(client, user, longest[:-1] + "2").status_code == 401
    assert login(client, user, longest).status_code == 200


def test_a_repeat_is_answered_as_before_though_the_password_is_another_one_by_now(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user, key = make_user(), new_key()
    assert change(client, user, key=key).status_code == 204
    again = change(client, user, key=key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (204, "true")
    assert [action for action, _ in events(sql, user)] == ["auth.credential.changed"]
    assert outcome(change(client, user)) == (401, "INVALID_CREDENTIALS")
    other = change(client, user, key=key, new="something-else-1")
    assert outcome(other) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_refusal_leaves_the_key_free(client: Client, make_user: MakeUser) -> None:
    user, key = make_user(), new_key()
    assert change(client, user, current="a wrong guess", key=key).status_code == 401
    assert change(client, user, key=key).status_code == 204


def test_a_repeat_is_recognised_after_the_master_key_was_changed(
    empty_database: Settings, settings: Settings
) -> None:
    """So is the cursor of a list. Both on every machine, while the old master key is known."""
    app = create_app(empty_database)
    client, key = Client(app), new_key()
    reader, user = people.make_user(app, roles=("admin",)), people.make_user(app)
    assert change(client, user, key=key).status_code == 204
    page = {"per_page": 1}
    first = client.get("/api/v1/users", token=reader.token, query_string=page).json
    ((version, old),) = settings.auth_master_keys
    later = ((version + 1, b"n" * 32), (version, old))
    client = Client(create_app(replace(empty_database, auth_master_keys=later)))
    again = change(client, user, key=key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (204, "true")
    page["cursor"] = first["next_cursor"]
    second = client.get("/api/v1/users", token=reader.token, query_string=page)
    assert [user["id"] for user in second.json["items"]] == [str(reader.id)]


@pytest.fixture
def limited(app: Flask, settings: Settings) -> Iterator[Client]:
    """A client of the application with limits."""
    yield Client(create_app(replace(settings, rate_limit_enabled=True)))
    configure(settings)


def test_who_has_a_stolen_access_token_can_not_guess_the_password(
    limited: Client, make_user: MakeUser, sql: Sql
) -> None:
    """Not by repeating a request that was answered either; nobody else is hindered."""
    user, bystander, key = make_user(), make_user(), new_key()
    stolen = login(limited, user).json["access_token"]
    guesses = [change(limited, user, current=f"guess {n}", token=stolen) for n in range(12)]
    assert [answer.status_code for answer in guesses] == [401] * 10 + [429] * 2
    assert 0 < int(guesses[-1].headers["Retry-After"]) <= throttling.SECONDS
    refused = [action for action, _ in events(sql, user) if action == "auth.credential.refused"]
    assert len(refused) == 10
    # From another login session the owner changes it, and nobody is kept from signing in.
    assert change(limited, user, key=key).status_code == 204
    assert change(limited, bystander).status_code == 204
    own = login(limited, user, NEW).json["access_token"]
    repeated = [change(limited, user, current=f"guess {n}", key=key, token=own) for n in range(11)]
    assert [answer.status_code for answer in repeated] == [422] * 10 + [429]
    with time_machine.travel(clock.now() + timedelta(seconds=throttling.SECONDS)):
        later = login(limited, user, NEW).json["access_token"]
        again = change(limited, user, current=NEW, new="another-one-1822", token=later)
        assert again.status_code == 204


def test_the_right_password_is_no_guess(limited: Client, make_user: MakeUser) -> None:
    user = make_user()
    answers = [change(limited, user, new="password123").status_code for _ in range(12)]
    assert answers == [422] * 12
    assert change(limited, user).status_code == 204
