"""A user changes their own name and address."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from app.auth import registration
from app.platform.settings import Settings
from tests import limiting
from tests.auth.moving import RESET, VERIFY, MakeUser, Sql, change, events, follow, new_address
from tests.auth.refreshing import ME, login, outcome
from tests.client import Client, new_key
from tests.mailing import Postman
from tests.people import TestUser


def test_a_name_counts_at_once(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user = make_user(name="Ada")
    answer = change(client, user, name="Ada King")
    assert answer.status_code == 200
    assert (answer.json["name"], answer.headers["ETag"]) == ("Ada King", '"2"')
    assert client.get(ME, token=user.token).json == answer.json
    action, personal = events(sql, user)[-1]
    assert action == "users.user.changed"
    assert (personal["before"], personal["after"]) == ({"name": "Ada"}, {"name": "Ada King"})
    admin = make_user(roles=("admin",))
    found = client.get("/api/v1/users?name=da+Kin", token=admin.token).json["items"]
    assert str(user.id) in [item["id"] for item in found]


def test_what_stays_the_same_changes_nothing(client: Client, make_user: MakeUser, sql: Sql) -> None:
    user = make_user()
    before = events(sql, user)
    for body in ({}, {"name": user.name}, {"email": user.email}):
        answer = change(client, user, **body)
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert events(sql, user) == before


def test_an_old_version_is_not_changed(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    stale = change(client, user, name="New", headers={"If-Match": '"7"'})
    assert outcome(stale) == (412, "PRECONDITION_FAILED")
    assert change(client, user, name="New", headers={"If-Match": '"1"'}).status_code == 200


def test_a_repeat_with_the_key_gets_the_first_answer_and_sends_no_other_mail(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user, key, email = make_user(), new_key(), new_address()
    first, second = (change(client, user, email=email, key=key) for _ in range(2))
    assert first.data == second.data
    assert second.headers["Idempotent-Replayed"] == "true"
    assert [mail.kind for mail in postman.deliver(email=email)] == ["change"]


def test_a_new_address_counts_once_its_mail_is_read_and_the_old_one_is_told(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user, email = make_user(verified=True), new_address()
    answer = change(client, user, email=email)
    assert (answer.status_code, answer.json["email"]) == (200, user.email)
    (asked,) = postman.deliver(email=email)
    (notice,) = postman.deliver(email=user.email)
    assert (asked.kind, asked.path, email in asked.to) == ("change", "/account/verify", True)
    assert (notice.kind, notice.path) == ("change_notice", "/account/undo")
    assert user.email in notice.to
    assert follow(client, VERIFY, asked).status_code == 204
    me = client.get(ME, token=user.token).json
    assert (me["email"], me["email_verified"]) == (email, True)
    assert outcome(login(client, user)) == (401, "INVALID_CREDENTIALS")
    signing_in = {"email": email, "password": user.password}
    assert client.post("/api/v1/auth/login", json=signing_in).status_code == 200
    assert outcome(follow(client, VERIFY, asked)) == (422, "INVALID_TOKEN")
    actions = [action for action, _ in events(sql, user)]
    assert actions[-3:-1] == ["auth.email.change_requested", "auth.email.changed"]


def test_a_spelling_of_the_same_address_counts_at_once(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user()
    answer = change(client, user, email=user.email.upper())
    assert answer.json["email"] == user.email.upper()
    assert postman.deliver(user_id=user.id, email=user.email) == []


def test_a_taken_address_is_refused_in_the_open(client: Client, make_user: MakeUser) -> None:
    user, other = make_user(), make_user()
    assert outcome(change(client, user, email=other.email)) == (409, "EMAIL_TAKEN")


def test_an_address_that_was_taken_meanwhile_is_not_given_away(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    first, second, email = make_user(), make_user(), new_address()
    change(client, first, email=email)
    change(client, second, email=email)
    mails = [mail for mail in postman.deliver(email=email) if mail.kind == "change"]
    assert follow(client, VERIFY, mails[0]).status_code == 204
    assert outcome(follow(client, VERIFY, mails[1])) == (422, "INVALID_TOKEN")


@pytest.fixture
def private(app: Flask, settings: Settings) -> Iterator[None]:
    registration.configure(replace(settings, auth_signup_mode="private"))
    yield
    registration.configure(settings)


def test_in_private_nobody_learns_that_an_address_is_taken(
    client: Client, make_user: MakeUser, postman: Postman, private: None
) -> None:
    user, other = make_user(), make_user()
    taken, free = other.email, new_address()
    answers = [change(client, user, email=email) for email in (taken, free)]
    assert answers[0].data == answers[1].data
    assert [answer.status_code for answer in answers] == [200, 200]
    assert postman.deliver(email=taken) == []
    assert [mail.kind for mail in postman.deliver(email=free)] == ["change"]


def test_only_the_last_address_asked_for_can_be_confirmed(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user, first, second = make_user(), new_address(), new_address()
    change(client, user, email=first)
    (old,) = postman.deliver(email=first)
    change(client, user, email=second)
    assert outcome(follow(client, VERIFY, old)) == (422, "INVALID_TOKEN")
    (new,) = postman.deliver(email=second)
    assert follow(client, VERIFY, new).status_code == 204


def test_changes_of_address_are_limited(
    client: Client, make_user: MakeUser, limits: limiting.SwitchOn
) -> None:
    limits()
    user, email = make_user(), new_address()
    codes = [change(client, user, email=email).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]
    assert change(client, user, name="Still allowed").status_code == 200


@pytest.mark.parametrize("how", ["password", "forgot", "staff"])
def test_a_new_password_ends_a_change_of_address_that_somebody_asked_for(
    client: Client, make_user: MakeUser, admin: TestUser, postman: Postman, how: str
) -> None:
    user, email = make_user(verified=True), new_address()
    change(client, user, email=email)
    (asked,) = postman.deliver(email=email)
    if how == "password":
        body = {"current_password": user.password, "new_password": "turing-1936-tape"}
        assert client.put(f"{ME}/password", json=body, token=user.token).status_code == 204
    elif how == "staff":
        client.post(f"/api/v1/users/{user.id}/password-reset", token=admin.token)
    else:
        client.post("/api/v1/auth/password/forgot", json={"email": user.email})
        (mail,) = (one for one in postman.deliver(email=user.email) if one.kind == "reset")
        body = {"token": mail.token or "", "new_password": "turing-1936-tape"}
        assert client.post(RESET, json=body).status_code == 204
    assert outcome(follow(client, VERIFY, asked)) == (422, "INVALID_TOKEN")


def test_a_change_that_was_closed_is_not_mailed(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user, first, second = make_user(), new_address(), new_address()
    change(client, user, email=first)
    change(client, user, email=second)
    assert postman.deliver(email=first) == []
    assert [mail.kind for mail in postman.deliver(email=second)] == ["change"]
