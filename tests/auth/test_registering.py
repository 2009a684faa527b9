"""Signing up: the mail that verifies an address; and in private, where nobody learns more."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Row
from werkzeug.test import TestResponse

from app import configure, create_app
from app.auth import addresses, registration, service
from app.mail.values import Kind
from app.platform.settings import Settings
from tests import limiting
from tests.auth.pausing import pause
from tests.auth.refreshing import outcome, use
from tests.client import Client, new_key
from tests.mailing import Postman
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
USERS = "/api/v1/users"
VERIFY = "/api/v1/auth/email/verify"
RESEND = "/api/v1/auth/email/resend"
PASSWORD = "curie-1903-radium"


def new_address() -> str:
    return f"{uuid4().hex}@example.org"


def sign_up(client: Client, email: str, *, name: str = "Marie", **options: Any) -> TestResponse:
    body = {"email": email, "name": name, "password": options.pop("password", PASSWORD)}
    return client.post(USERS, json=body, **options)


def verify(client: Client, token: str | None) -> TestResponse:
    return client.post(VERIFY, json={"token": token})


def login(client: Client, email: str, password: str = PASSWORD) -> TestResponse:
    return client.post("/api/v1/auth/login", json={"email": email, "password": password})


@pytest.fixture
def private(app: Flask, settings: Settings) -> Iterator[None]:
    """The private mode of signing up."""
    registration.configure(replace(settings, auth_signup_mode="private"))
    yield
    registration.configure(settings)


@pytest.fixture
def verified_only(app: Flask, settings: Settings) -> Iterator[None]:
    """The rule that nobody signs in before the address is verified."""
    service.configure(replace(settings, auth_require_verified_email=True))
    yield
    service.configure(settings)


def test_a_new_user_is_welcomed_by_a_mail_that_verifies_the_address(
    client: Client, postman: Postman, sql: Sql
) -> None:
    email = new_address()
    user = sign_up(client, email).json
    assert user["email_verified"] is False
    (mail,) = postman.deliver(user_id=user["id"])
    assert (mail.kind, mail.path) == ("verify", "/account/verify")
    assert "Marie" in mail.text
    assert verify(client, mail.token).status_code == 204
    token = login(client, email).json["access_token"]
    me = client.get("/api/v1/users/me", token=token)
    assert me.json["email_verified"] is True
    assert me.headers["ETag"] == '"2"'
    assert outcome(verify(client, mail.token)) == (422, "INVALID_TOKEN")
    ((actor,),) = sql(
        "SELECT actor_id FROM audit_events WHERE subject_id = :id"
        " AND action = 'auth.email.verified'",
        id=user["id"],
    )
    assert str(actor) == user["id"]


def test_the_mail_can_be_sent_again_until_the_address_is_verified(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user()
    assert client.post(RESEND, token=user.token).status_code == 202
    assert client.post(RESEND, token=user.token).json == {}
    first, second = postman.deliver(user_id=user.id)
    assert verify(client, first.token).status_code == 204
    # Nothing is left to verify, and nothing wrong with the other link.
    assert verify(client, second.token).status_code == 204
    assert client.post(RESEND, token=user.token).status_code == 202
    assert postman.deliver(user_id=user.id) == []


def test_resending_twice_with_one_key_sends_one_mail(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user, key = make_user(), new_key()
    answers = [client.post(RESEND, token=user.token, key=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert len(postman.deliver(user_id=user.id)) == 1


def test_a_twin_of_a_running_resend_is_told_to_come_back(
    client: Client, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, key = make_user(), new_key()
    writing, go_on = pause(monkeypatch, addresses, "resend")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, RESEND, token=user.token, key=key)
        assert writing.wait(10)
        twin = client.post(RESEND, token=user.token, key=key)
        assert outcome(twin) == (409, "IDEMPOTENCY_IN_PROGRESS")
        go_on.set()
        assert first.result(10).status_code == 202


def test_resending_is_limited(
    client: Client, make_user: MakeUser, limits: limiting.SwitchOn
) -> None:
    limits()
    user = make_user()
    codes = [client.post(RESEND, token=user.token).status_code for _ in range(6)]
    assert codes == [202] * 5 + [429]


def test_only_who_has_a_verified_address_signs_in_where_that_is_the_rule(
    client: Client, make_user: MakeUser, postman: Postman, verified_only: None, sql: Sql
) -> None:
    email = new_address()
    user = sign_up(client, email).json
    assert outcome(login(client, email)) == (403, "EMAIL_NOT_VERIFIED")
    assert outcome(login(client, email, "a wrong guess")) == (401, "INVALID_CREDENTIALS")
    (mail,) = postman.deliver(user_id=user["id"])
    verify(client, mail.token)
    assert login(client, email).status_code == 200
    reasons = sql(
        "SELECT details->>'reason' FROM audit_events WHERE subject_id = :id"
        " AND action = 'auth.login.failed' ORDER BY created_at",
        id=user["id"],
    )
    assert [reason for (reason,) in reasons] == ["email_not_verified", "credentials"]


def test_in_private_everybody_gets_the_same_answer_and_leaves_the_same_rows(
    client: Client, make_user: MakeUser, private: None, sql: Sql
) -> None:
    known, unknown = make_user().email, new_address()
    answers = [
        sign_up(client, email, headers={"X-Request-Id": "same"}) for email in (known, unknown)
    ]
    assert [(answer.status_code, answer.json) for answer in answers] == [(202, {})] * 2
    assert list(answers[0].headers) == list(answers[1].headers)
    rows = (
        "SELECT kind, user_id, facts->>'name', state, expires_at FROM mails WHERE email_key = :key"
    )
    assert sql(rows, key=known) == sql(rows, key=unknown) != []
    events = "SELECT count(*) FROM outbox_events e JOIN mails m ON m.id = e.subject_id"
    counts = [sql(f"{events} WHERE email_key = :key", key=key) for key in (known, unknown)]
    assert counts[0] == counts[1] == [(1,)]


def test_in_private_a_user_is_there_once_the_mail_was_read(
    client: Client, postman: Postman, private: None, sql: Sql
) -> None:
    email = new_address()
    sign_up(client, email)
    (mail,) = postman.deliver(email=email)
    assert (mail.kind, mail.path) == ("sign_up", "/account/verify")
    # Else signing up and in would tell that nobody had the address.
    assert outcome(login(client, email)) == (401, "INVALID_CREDENTIALS")
    assert verify(client, mail.token).status_code == 204
    token = login(client, email).json["access_token"]
    me = client.get("/api/v1/users/me", token=token).json
    assert (me["email"], me["name"], me["email_verified"]) == (email, "Marie", True)
    assert outcome(verify(client, mail.token)) == (422, "INVALID_TOKEN")
    (row,) = sql("SELECT facts, user_id FROM mails WHERE id = :id", id=mail.id)
    # It is the user's now, and goes with them.
    assert (row.facts, str(row.user_id)) == ({}, me["id"])


def test_in_private_whoever_has_an_account_is_told_so_and_nobody_else(
    client: Client, make_user: MakeUser, postman: Postman, private: None, sql: Sql
) -> None:
    user = make_user(name="Irène")
    sign_up(client, user.email.upper(), name="Somebody Else")
    (mail,) = postman.deliver(email=user.email)
    assert (mail.kind, mail.token) == (Kind.SIGN_UP, None)
    assert user.email in mail.to
    assert "Irène" in mail.text
    assert "Somebody Else" not in mail.text
    assert sql("SELECT facts FROM mails WHERE id = :id", id=mail.id) == [({},)]


def test_of_two_private_sign_ups_for_an_address_one_becomes_the_user(
    client: Client, postman: Postman, private: None
) -> None:
    email = new_address()
    sign_up(client, email, password=PASSWORD)
    sign_up(client, email, password="another-one-1911")
    first, second = postman.deliver(email=email)
    assert verify(client, second.token).status_code == 204
    assert outcome(verify(client, first.token)) == (422, "INVALID_TOKEN")
    assert outcome(login(client, email)) == (401, "INVALID_CREDENTIALS")
    assert login(client, email, "another-one-1911").status_code == 200


def test_lost_passwords_keep_nobody_from_signing_up(
    client: Client, private: None, limits: limiting.SwitchOn
) -> None:
    limits()
    email = new_address()
    for _ in range(6):
        last = client.post("/api/v1/auth/password/forgot", json={"email": email})
    assert last.status_code == 429
    assert sign_up(client, email).status_code == 202


def test_in_private_sign_ups_are_limited_whoever_has_the_address(
    client: Client, make_user: MakeUser, private: None, limits: limiting.SwitchOn
) -> None:
    limits()
    for email in (make_user().email, new_address()):
        assert [sign_up(client, email).status_code for _ in range(6)] == [202] * 5 + [429]


def test_in_private_a_weak_password_is_refused_like_anywhere(client: Client, private: None) -> None:
    answer = sign_up(client, new_address(), password="password123")
    assert outcome(answer) == (422, "WEAK_PASSWORD")


def test_open_sign_ups_of_one_network_are_limited_because_each_sends_a_mail(
    client: Client, limits: limiting.SwitchOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits()
    few = replace(registration.MAILS_BY_NETWORK, amount=2)
    monkeypatch.setattr(registration, "MAILS_BY_NETWORK", few)
    home = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.9"}}
    codes = [sign_up(client, new_address(), **home).status_code for _ in range(3)]
    assert codes == [201, 201, 429]


def test_the_mode_comes_from_the_settings(settings: Settings, app: Flask) -> None:
    try:
        other = create_app(replace(settings, auth_signup_mode="private"))
        assert sign_up(Client(other), new_address()).status_code == 202
    finally:
        configure(settings)


def test_a_signed_in_device_is_not_told_of(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user()
    assert use(client, {"access_token": user.token}) == 200
    assert postman.deliver(user_id=user.id) == []
