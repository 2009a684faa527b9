"""A change of address is taken back by the link that the old address got."""

from tests.auth.moving import (
    RESET,
    UNDO,
    VERIFY,
    MakeUser,
    Sql,
    change,
    events,
    follow,
    moved,
    new_address,
)
from tests.auth.refreshing import ME, login, outcome, sign_in
from tests.client import Client
from tests.mailing import Postman


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
