"""Deletion by oneself and by staff: what ends at once, what is in the way, and how it is undone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app.credits import verification
from app.platform import clock
from tests import limiting, people
from tests.auth.refreshing import login, outcome, refresh, sign_in
from tests.client import Client, new_key
from tests.mailing import Postman
from tests.people import TestUser
from tests.support.leaving import (
    ME,
    Sql,
    balance_of,
    leave,
    let_go,
    past_undo,
    status_of,
    undo,
)

MakeUser = Callable[..., TestUser]


def events(sql: Sql, user: TestUser) -> list[tuple[str, dict[str, Any]]]:
    """Return what support has done to a user."""
    rows = sql(
        "SELECT action, details FROM audit_events"
        " WHERE subject_id = :id AND action ~ 'support|deletion' ORDER BY created_at, id",
        id=user.id,
    )
    return [tuple(row) for row in rows]


def test_whoever_leaves_is_out_everywhere_at_once(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user = make_user(name="Ada")
    others = sign_in(client, user)
    api_key = people.make_api_key(user, "self:read")
    postman.deliver(user_id=user.id)
    answer = leave(client, user)
    assert (answer.status_code, answer.json) == (202, {})
    assert answer.headers["Cache-Control"] == "no-store"
    for token in (user.token, others["access_token"], api_key):
        assert outcome(client.get(ME, token=token)) == (401, "UNAUTHENTICATED")
    assert outcome(refresh(client, others)) == (401, "SESSION_REVOKED")
    assert outcome(login(client, user)) == (401, "INVALID_CREDENTIALS")
    assert status_of(sql, user) == ("deleting", True)
    assert events(sql, user) == [("support.deletion.started", {"was": "active"})]
    ended = "SELECT DISTINCT ended_reason FROM login_sessions WHERE user_id = :id"
    assert sql(ended, id=user.id) == [("deleted",)]
    (mail,) = postman.deliver(user_id=user.id)
    until = clock.now() + timedelta(days=30)
    assert (mail.kind, mail.path) == ("deletion", "/account/undo")
    assert "Ada" in mail.text
    assert f"{until.day} {until:%B %Y}" in " ".join(mail.text.split())


def test_the_address_of_whoever_leaves_stays_taken(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    assert leave(client, user).status_code == 202
    body = {"email": user.email, "name": "Other", "password": user.password}
    assert outcome(client.post("/api/v1/users", json=body)) == (409, "EMAIL_TAKEN")


def test_a_deletion_is_undone_by_the_link_in_its_mail_once(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user = make_user(credits=5)
    assert leave(client, user, more={"forfeit": True}).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    assert undo(client, mail.token).status_code == 204
    assert status_of(sql, user) == ("active", False)
    assert outcome(undo(client, mail.token)) == (422, "INVALID_TOKEN")
    # The login sessions have ended for good, and so have the credits.
    assert client.get(ME, token=user.token).status_code == 401
    assert login(client, user).status_code == 200
    assert balance_of(sql, user) == 0
    assert [action for action, _ in events(sql, user)] == [
        "support.deletion.started",
        "support.credits.forfeited",
        "auth.deletion.reverted",
    ]
    # And it can be begun again.
    assert leave(client, user, token=sign_in(client, user)["access_token"]).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    assert undo(client, mail.token).status_code == 204


def test_a_deletion_can_not_be_undone_after_thirty_days(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    user = make_user()
    assert leave(client, user).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    with past_undo():
        assert outcome(undo(client, mail.token)) == (422, "INVALID_TOKEN")
    assert status_of(sql, user) == ("deleting", True)


@pytest.mark.parametrize("days", [None, 1])
def test_a_suspended_user_whose_deletion_is_undone_is_suspended_again(
    client: Client,
    make_user: MakeUser,
    admin: TestUser,
    postman: Postman,
    sql: Sql,
    days: int | None,
) -> None:
    """For good: how long it still was isn't known any more."""
    user = make_user()
    until = None if days is None else (clock.now() + timedelta(days=days)).isoformat()
    url = f"/api/v1/users/{user.id}/suspend"
    body = {"reason": "Chargebacks", "until": until}
    assert client.post(url, token=admin.token, json=body).status_code == 200
    assert let_go(client, admin, user).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    assert undo(client, mail.token).status_code == 204
    assert status_of(sql, user) == ("suspended", False)
    assert outcome(login(client, user)) == (403, "USER_SUSPENDED")


def test_links_that_were_sent_before_are_closed(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user()
    body = {"email": user.email}
    assert client.post("/api/v1/auth/password/forgot", json=body).status_code == 202
    (reset,) = postman.deliver(email=user.email)
    assert leave(client, user).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    assert undo(client, mail.token).status_code == 204
    spent = {"token": reset.token, "new_password": "babbage-1837-engine"}
    answer = client.post("/api/v1/auth/password/reset", json=spent)
    assert outcome(answer) == (422, "INVALID_TOKEN")


def test_who_takes_a_change_of_address_back_takes_a_deletion_back_too(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql
) -> None:
    """Somebody has taken over the account, and wants it gone: the mail about that goes to them."""
    user = make_user(verified=True)
    theirs = f"thief-{user.email}"
    assert client.patch(ME, token=user.token, json={"email": theirs}).status_code == 200
    (notice,) = postman.deliver(user_id=user.id, email=user.email)
    (proof,) = postman.deliver(email=theirs)
    verify = client.post("/api/v1/auth/email/verify", json={"token": proof.token})
    assert verify.status_code == 204
    assert leave(client, user).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    assert theirs in mail.to
    assert undo(client, notice.token).status_code == 204
    assert status_of(sql, user) == ("active", False)
    assert outcome(undo(client, mail.token)) == (422, "INVALID_TOKEN")
    assert events(sql, user)[-1][0] == "auth.deletion.reverted"
    (reset,) = postman.deliver(user_id=user.id)
    assert (reset.kind, user.email in reset.to) == ("forced_reset", True)


def test_credits_are_in_the_way_unless_they_are_given_up(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user(credits=70)
    refused = leave(client, user)
    assert outcome(refused) == (409, "ACCOUNT_NOT_SETTLED")
    assert refused.json["error"]["details"] == {"balance": 70, "held": 0, "orders": 0}
    assert outcome(leave(client, user, more={"forfeit": False})) == (409, "ACCOUNT_NOT_SETTLED")
    # Nothing of it has happened.
    assert client.get(ME, token=user.token).status_code == 200
    assert events(sql, user) == []
    assert leave(client, user, more={"forfeit": True}).status_code == 202
    assert balance_of(sql, user) == 0
    ((transfer_id, kind, amount, actor_id),) = sql(
        "SELECT id, kind, amount, actor_id FROM transfers WHERE from_account_id = :id", id=user.id
    )
    assert (kind, amount, actor_id) == ("forfeit", 70, user.id)
    assert events(sql, user)[1] == (
        "support.credits.forfeited",
        {"transfer_id": str(transfer_id), "amount": 70},
    )
    assert list(verification.verify()) == []


def test_held_credits_are_in_the_way_unless_they_are_given_up(
    client: Client, make_user: MakeUser
) -> None:
    user = make_user(credits=10)
    body, key = {"amount": 4}, new_key()
    client.post("/api/v1/credits/holds", json=body, token=user.token, key=key)
    refused = leave(client, user)
    assert outcome(refused) == (409, "ACCOUNT_NOT_SETTLED")
    assert refused.json["error"]["details"] == {"balance": 10, "held": 4, "orders": 0}
    assert leave(client, user, more={"forfeit": True}).status_code == 202


def test_leaving_takes_the_password_and_guesses_are_counted(
    client: Client, make_user: MakeUser, settings: Any, sql: Sql
) -> None:
    user = make_user()
    refused = "SELECT count(*) FROM audit_events WHERE subject_id = :id AND action = :action"
    with limiting.switching(settings) as switch_on:
        switch_on()
        for _ in range(10):
            answer = leave(client, user, more={"password": "not mine"})
            assert outcome(answer) == (401, "INVALID_CREDENTIALS")
        limiting.assert_limited(leave(client, user), limit=10, within=15 * 60)
    ((counted,),) = sql(refused, id=user.id, action="auth.credential.refused")
    assert counted == 10
    assert status_of(sql, user) == ("active", False)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"password": ""}, "password"),
        ({"password": None}, "password"),
        ({"forfeit": 1}, "forfeit"),
        ({"forfeit": "true"}, "forfeit"),
        ({"forfeit": None}, "forfeit"),
        ({"sure": True}, "sure"),
    ],
)
def test_a_deletion_that_breaks_the_contract_is_refused(
    client: Client, make_user: MakeUser, sql: Sql, more: dict[str, Any], field: str
) -> None:
    user = make_user()
    answer = leave(client, user, more=more)
    assert outcome(answer) == (422, "VALIDATION_ERROR")
    assert set(answer.json["error"]["details"]) == {field}
    assert status_of(sql, user) == ("active", False)


def test_leaving_needs_the_password(client: Client, make_user: MakeUser) -> None:
    answer = client.delete(ME, token=make_user().token)
    assert outcome(answer) == (422, "VALIDATION_ERROR")


def test_the_last_administrator_stays(
    empty_database: Any, client: Client, make_user: MakeUser
) -> None:
    admin = make_user(roles=("admin",))
    assert outcome(leave(client, admin)) == (409, "LAST_ADMIN")
    assert client.get(ME, token=admin.token).status_code == 200
    other = make_user(roles=("admin",))
    assert let_go(client, other, admin).status_code == 202
    assert outcome(leave(client, other)) == (409, "LAST_ADMIN")


def test_staff_has_a_user_deleted_at_the_version_that_it_knows(
    client: Client, make_user: MakeUser, admin: TestUser, postman: Postman, sql: Sql
) -> None:
    user, key = make_user(credits=3), new_key()
    stale = let_go(client, admin, user, headers={"If-Match": '"7"'})
    assert outcome(stale) == (412, "PRECONDITION_FAILED")
    refused = let_go(client, admin, user, headers={"If-Match": '"1"'})
    assert outcome(refused) == (409, "ACCOUNT_NOT_SETTLED")
    # What an account holds is its owner's business.
    assert "details" not in refused.json["error"]
    first = let_go(client, admin, user, more={"forfeit": True}, key=key)
    assert (first.status_code, first.json) == (202, {})
    again = let_go(client, admin, user, more={"forfeit": True}, key=key)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert outcome(let_go(client, admin, user)) == (409, "INVALID_STATE")
    assert [action for action, _ in events(sql, user)] == [
        "support.deletion.started",
        "support.credits.forfeited",
    ]
    assert client.get(ME, token=user.token).status_code == 401
    shown = client.get(f"/api/v1/users/{user.id}", token=admin.token)
    assert (shown.json["status"], shown.headers["ETag"]) == ("deleting", '"2"')
    kinds = [mail.kind for mail in postman.deliver(user_id=user.id)]
    assert kinds == ["deletion"]


def test_staff_deletes_neither_themself_nor_somebody_stronger(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    assert outcome(let_go(client, admin, admin)) == (403, "FORBIDDEN")
    for role in ("support", "finance", "service"):
        staff = make_user(roles=(role,))
        assert outcome(let_go(client, staff, make_user())) == (403, "FORBIDDEN")
    assert status_of(sql, admin) == ("active", False)


def test_a_user_who_is_gone_is_not_there(
    client: Client, make_user: MakeUser, admin: TestUser, sql: Sql
) -> None:
    user = make_user()
    sql(people.SET_STATUS, status="erased", id=user.id)
    assert outcome(let_go(client, admin, user)) == (404, "NOT_FOUND")


def test_no_api_key_deletes_anybody(client: Client, admin: TestUser, make_user: MakeUser) -> None:
    user = make_user()
    key = people.make_api_key(admin, "users:write", "self:write")
    answer = client.delete(ME, token=key, json={"password": admin.password})
    assert outcome(answer) == (403, "FORBIDDEN")
    answer = client.delete(f"/api/v1/users/{user.id}", token=key, json={})
    assert outcome(answer) == (403, "FORBIDDEN")
    assert client.get(ME, token=user.token).status_code == 200


def test_a_suspension_goes_on_to_its_end_after_an_undo(
    client: Client, make_user: MakeUser, admin: TestUser, postman: Postman, sql: Sql
) -> None:
    user = make_user()
    until = (clock.now() + timedelta(days=50)).isoformat()
    body = {"reason": "For a test", "until": until}
    url = f"/api/v1/users/{user.id}/suspend"
    assert client.post(url, token=admin.token, json=body).status_code == 200
    assert let_go(client, admin, user).status_code == 202
    (mail,) = postman.deliver(user_id=user.id)
    assert undo(client, mail.token).status_code == 204
    ((status, end),) = sql("SELECT status, suspended_until FROM users WHERE id = :id", id=user.id)
    assert (status, end.isoformat()) == ("suspended", until)


def test_the_old_address_hears_of_a_change_though_the_deletion_has_begun(
    client: Client, make_user: MakeUser, postman: Postman
) -> None:
    user = make_user(verified=True)
    client.patch(ME, token=user.token, json={"email": f"thief-{user.email}"})
    assert leave(client, user).status_code == 202
    kinds = {mail.kind for mail in postman.deliver(user_id=user.id, email=user.email)}
    assert "change_notice" in kinds
