"""The tokens in mails: each is good once, however many use it at the same time."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row

from app.mail import service as mail
from app.mail.values import LIFETIMES, Kind
from app.platform.db import transaction
from tests.auth.refreshing import outcome
from tests.client import Client
from tests.mailing import Postman
from tests.people import SET_STATUS, TestUser
from tests.racing import ROUNDS, RUNNERS, at_once
from tests.tracing import unfollowed

pytestmark = unfollowed

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
VERIFY = "/api/v1/auth/email/verify"
RESET = "/api/v1/auth/password/reset"
UNDO = "/api/v1/auth/undo"
PATHS = {
    Kind.VERIFY: VERIFY,
    Kind.SIGN_UP: VERIFY,
    Kind.CHANGE: VERIFY,
    Kind.RESET: RESET,
    Kind.FORCED_RESET: RESET,
    Kind.CHANGE_NOTICE: UNDO,
    Kind.DELETION: UNDO,
}


def token_of(kind: Kind, user: TestUser, postman: Postman, password_hash: str) -> str:
    """Return the token of a mail of this kind that the user has got."""
    somebody = f"{uuid4().hex}@example.org"
    email: str | None = None
    user_id: UUID | None = user.id
    facts = {"date": "today"}
    if kind == Kind.SIGN_UP:
        user_id, email = None, somebody
        facts = {"name": "New", "password_hash": password_hash}
    elif kind == Kind.CHANGE:
        email = somebody
    elif kind == Kind.CHANGE_NOTICE:
        email = user.email
    with transaction() as session:
        mail.request(session, kind, user_id=user_id, email=email, facts=facts)
    (arrived,) = postman.deliver(user_id=user_id, email=email)
    assert arrived.token is not None
    return arrived.token


def test_every_kind_with_a_token_is_raced() -> None:
    assert set(PATHS) == set(LIFETIMES)


@pytest.mark.parametrize("kind", PATHS)
def test_of_many_with_one_token_exactly_one_wins(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql, kind: Kind
) -> None:
    """Seen failing when the token was looked up and noted as used in two statements."""
    for _ in range(ROUNDS):
        user = make_user()
        if kind == Kind.DELETION:
            sql(SET_STATUS, status="deleting", id=user.id)
        ((hashed,),) = sql("SELECT password_hash FROM users WHERE id = :id", id=user.id)
        token = token_of(kind, user, postman, hashed)

        def use(number: int, token: str = token) -> int:
            body = {"token": token}
            if PATHS[kind] == RESET:
                body["new_password"] = f"noether-1918-symmetry-{number}"
            return int(client.post(PATHS[kind], json=body).status_code)

        assert sorted(at_once(use, RUNNERS)) == [204] + [422] * (RUNNERS - 1)


@pytest.mark.parametrize("kind", PATHS)
def test_a_token_of_one_kind_opens_nothing_else(
    client: Client, make_user: MakeUser, postman: Postman, sql: Sql, kind: Kind
) -> None:
    user = make_user()
    if kind == Kind.DELETION:
        sql(SET_STATUS, status="deleting", id=user.id)
    token = token_of(kind, user, postman, "$argon2id$x")
    for path in {*PATHS.values()} - {PATHS[kind]}:
        body = {"token": token}
        if path == RESET:
            body["new_password"] = "noether-1918-symmetry"
        assert outcome(client.post(path, json=body)) == (422, "INVALID_TOKEN")
