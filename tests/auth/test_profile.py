"""Changing name and address: by the user, by staff, and taking it back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Row
from werkzeug.test import TestResponse

from app.auth import registration
from app.platform.settings import Settings
from tests import limiting, people
from tests.auth.refreshing import login, outcome, sign_in
from tests.client import Client, new_key
from tests.mailing import Mail, Postman
from tests.people import SET_STATUS, TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
ME = "/api/v1/users/me"
VERIFY = "/api/v1/auth/email/verify"
UNDO = "/api/v1/auth/undo"
RESET = "/api/v1/auth/password/reset"


def new_address() -> str:
    return f"{uuid4().hex}@example.org"


def change(client: Client, user: TestUser, **options: Any) -> TestResponse:
    names = ("key", "headers", "token")
    sent = {name: options.pop(name) for name in names if name in options}
    return client.patch(ME, json=options, **{"token": user.token} | sent)


def follow(client: Client, path: str, mail: Mail) -> TestResponse:
    return client.post(path, json={"token": mail.token})


def moved(client: Client, postman: Postman, user: TestUser, email: str) -> Mail:
    """Change a user's address as who has the new mailbox, and return the old one's notice."""
    assert change(client, user, email=email).status_code == 200
    arrived = {mail.kind: mail for mail in postman.deliver(user_id=user.id, email=email)}
    notices = postman.deliver(user_id=user.id, email=user.email)
    assert follow(client, VERIFY, arrived["change"]).status_code == 204
    return next(mail for mail in notices if mail.kind == "change_notice")


def events(sql: Sql, user: TestUser) -> list[tuple[str, dict[str, Any]]]:
    rows = sql(
        "SELECT action, details, convert_from(data, 'UTF8')::jsonb AS personal"
        " FROM audit_events LEFT JOIN audit_personal ON event_id = id"
        " WHERE audit_events.subject_id = :id ORDER BY audit_events.created_at, id",
        id=user.id,
    )
    return [(row.action, row.personal) for row in rows]


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


def test_the_old_address_takes_a_change_back_and_everybody_is_signed_out(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user, email = make_user(verified=True), new_address()
    notice = moved(client, postman, user, email)
    stolen = client.post(
        "/api/v1/auth/login", json={"email": email, "password": user.password}
    ).json
    assert follow(client, UNDO, notice).status_code == 204
    assert client.get(ME, token=stolen["access_token"]).status_code == 401
    assert outcome(login(client, user)) == (403, "FORBIDDEN")
    (mail,) = (mail for mail in postman.deliver(user_id=user.id) if mail.kind == "forced_reset")
    assert user.email in mail.to
    answer = client.post(RESET, json={"token": mail.token, "new_password": "turing-1936-tape"})
    assert answer.status_code == 204
    tokens = sign_in(client, user, password="turing-1936-tape")
    me = client.get(ME, token=tokens["access_token"]).json
    assert (me["email"], me["email_verified"]) == (user.email, True)
    assert outcome(follow(client, UNDO, notice)) == (422, "INVALID_TOKEN")
    assert "auth.email.change_reverted" in [action for action, _ in events(sql, user)]


def test_a_change_is_taken_back_before_it_counts(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user, email = make_user(verified=True), new_address()
    change(client, user, email=email)
    (asked,) = postman.deliver(email=email)
    (notice,) = postman.deliver(email=user.email)
    assert follow(client, UNDO, notice).status_code == 204
    assert outcome(follow(client, VERIFY, asked)) == (422, "INVALID_TOKEN")
    assert client.get(ME, token=user.token).status_code == 401


def test_whoever_moved_an_address_on_cannot_undo_the_owners_undoing(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    """Else the second address, which a thief has, would be back in the end."""
    user, thief, further = make_user(verified=True), new_address(), new_address()
    owners = moved(client, postman, user, thief)
    change(client, user, email=further)
    (thiefs,) = (mail for mail in postman.deliver(email=thief) if mail.kind == "change_notice")
    assert follow(client, UNDO, owners).status_code == 204
    assert outcome(follow(client, UNDO, thiefs)) == (422, "INVALID_TOKEN")


def test_nobody_registers_an_address_that_its_owner_may_still_take_back(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user, other = make_user(verified=True), make_user()
    notice = moved(client, postman, user, new_address())
    body = {"email": user.email, "name": "Thief", "password": "stolen-goods-1999"}
    assert outcome(client.post("/api/v1/users", json=body)) == (409, "EMAIL_TAKEN")
    assert outcome(change(client, other, email=user.email)) == (409, "EMAIL_TAKEN")
    assert follow(client, UNDO, notice).status_code == 204


def test_staff_changes_name_and_address_at_once(
    client: Client, make_user: MakeUser, admin: TestUser, postman: Postman, sql: Sql
) -> None:
    user, email = make_user(name="Ada", verified=True), new_address()
    path = f"/api/v1/users/{user.id}"
    answer = client.put(path, token=admin.token, json={"name": "Ada King", "email": email})
    assert answer.status_code == 200
    assert (answer.json["name"], answer.json["email"]) == ("Ada King", email)
    assert answer.json["email_verified"] is False
    action, personal = events(sql, user)[-1]
    assert action == "users.user.changed"
    assert personal["before"] == {"name": "Ada", "email": user.email}
    assert personal["after"] == {"name": "Ada King", "email": email}
    (welcome,) = postman.deliver(email=email)
    (notice,) = postman.deliver(email=user.email)
    assert (welcome.kind, notice.kind) == ("verify", "change_notice")
    assert follow(client, VERIFY, welcome).status_code == 204
    assert client.get(path, token=admin.token).json["email_verified"] is True


def test_staff_changes_one_thing_of_the_version_that_it_knows(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    user, other = make_user(), make_user()
    path = f"/api/v1/users/{user.id}"

    def patch(**options: Any) -> TestResponse:
        return client.patch(path, token=admin.token, **options)

    assert patch(json={"name": "B"}, headers={"If-Match": '"1"'}).json["name"] == "B"
    stale = patch(json={"name": "C"}, headers={"If-Match": '"1"'})
    assert outcome(stale) == (412, "PRECONDITION_FAILED")
    assert outcome(patch(json={"email": other.email})) == (409, "EMAIL_TAKEN")
    both = {"name": "C", "email": other.email}
    assert outcome(client.put(path, token=admin.token, json=both)) == (409, "EMAIL_TAKEN")
    old = {"If-Match": '"1"'}
    stale = client.put(path, token=admin.token, json=both, headers=old)
    assert outcome(stale) == (412, "PRECONDITION_FAILED")
    assert outcome(client.put(path, token=admin.token, json={"name": "D"})) == (
        422,
        "VALIDATION_ERROR",
    )


def test_nobody_is_changed_who_is_going(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    user = make_user()
    sql(SET_STATUS, status="deleting", id=user.id)
    path = f"/api/v1/users/{user.id}"
    assert outcome(client.patch(path, token=admin.token, json={"name": "B"})) == (
        409,
        "INVALID_STATE",
    )
    reset = client.post(f"{path}/password-reset", token=admin.token)
    assert outcome(reset) == (409, "INVALID_STATE")


def test_an_address_that_was_never_proven_is_told_and_gets_no_way_back(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    """A mistyped one is a stranger's, who would get the account by an undo link."""
    user, email = make_user(), new_address()
    change(client, user, email=email)
    (told,) = postman.deliver(email=user.email)
    assert (told.kind, told.token) == ("change_told", None)
    (asked,) = postman.deliver(email=email)
    assert follow(client, VERIFY, asked).status_code == 204
    body = {"email": user.email, "name": "Its owner", "password": "lovelace-1843-notes"}
    assert client.post("/api/v1/users", json=body).status_code == 201


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


def test_api_keys_end_when_a_change_of_address_is_taken_back(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user = make_user(verified=True)
    body = {"name": "A thief's", "scopes": ["self:read"]}
    key = client.post("/api/v1/api-keys", token=user.token, json=body).json["key"]
    notice = moved(client, postman, user, new_address())
    assert follow(client, UNDO, notice).status_code == 204
    (mail,) = (mail for mail in postman.deliver(user_id=user.id) if mail.kind == "forced_reset")
    client.post(RESET, json={"token": mail.token, "new_password": "turing-1936-tape"})
    assert client.get(ME, token=key).status_code == 401
    assert "auth.api_key.deleted" in [action for action, _ in events(sql, user)]


def test_staff_changes_its_own_address_as_everybody_does_and_no_key_changes_one(
    client: Client, make_user: MakeUser, admin: TestUser
) -> None:
    key = people.make_api_key(admin, "users:write")
    for token, user in ((admin.token, admin), (key, make_user())):
        path = f"/api/v1/users/{user.id}"
        answer = client.patch(path, token=token, json={"email": new_address()})
        assert outcome(answer) == (403, "FORBIDDEN")
        assert client.patch(path, token=token, json={"name": "Other"}).status_code == 200
