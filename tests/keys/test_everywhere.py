"""What other workers and machines make of changed keys, master keys and algorithms, at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import jwt
import pytest
from flask import Flask
from sqlalchemy import Engine, delete, text

from app import create_app
from app.auth import tokens
from app.keys import master, rotation
from app.keys import service as keys
from app.keys.errors import KeysUnusable
from app.keys.models import signing_keys
from app.keys.service import KeyRing
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.settings import Settings
from tests.auth.refreshing import sign_in
from tests.client import Client
from tests.keys.conftest import At, Stored
from tests.people import TestUser

MakeUser = Callable[..., TestUser]
OPERATOR = Actor(kind="cli")
ME = "/api/v1/users/me"
OLD, NEW = (1, b"o" * 32), (2, b"n" * 32)


class Worker:
    """A worker's own memory of keys and tokens."""

    def __init__(self, settings: Settings) -> None:
        self.ring, self.verified = KeyRing(settings), tokens.VerifiedTokens()


@pytest.fixture
def work_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Worker], None]:
    """A function that lets this process be another worker."""

    def work_as(worker: Worker) -> None:
        monkeypatch.setattr(keys, "_ring", worker.ring)
        monkeypatch.setattr(tokens, "verified", worker.verified)

    return work_as


def kid_of(token: str) -> str:
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


def test_a_revoked_key_is_refused_on_the_next_request_of_every_worker(
    fresh: Settings, client: Client, make_user: MakeUser, work_as: Callable[[Worker], None]
) -> None:
    """The clock stands still: no worker has looked at its keys again, and both know the token."""
    user = make_user()
    workers = [Worker(fresh), Worker(fresh)]
    for worker in workers:
        work_as(worker)
        assert client.get(ME, token=user.token).status_code == 200
    old = kid_of(user.token)
    rotation.revoke(key_id=UUID(old), actor=OPERATOR)
    for worker in workers:
        assert worker.ring.current().signing_kid == old
        work_as(worker)
        assert client.get(ME, token=user.token).status_code == 401
    # Who refreshes or signs in on a worker that still has the old key gets tokens of the new one.
    refresh = {"refresh_token": user.refresh_token}
    answers = [client.post("/api/v1/auth/refresh", json=refresh).json, sign_in(client, user)]
    work_as(workers[0])
    answers.append(sign_in(client, user))
    for answer in answers:
        assert kid_of(answer["access_token"]) != old
        for worker in workers:
            work_as(worker)
            assert client.get(ME, token=answer["access_token"]).status_code == 200


def test_a_key_that_is_gone_from_the_database_is_refused_like_a_revoked_one(
    fresh: Settings, client: Client, make_user: MakeUser, stored: Stored
) -> None:
    user = make_user()
    assert client.get(ME, token=user.token).status_code == 200
    with transaction() as session:
        session.execute(delete(signing_keys))
    assert client.get(ME, token=user.token).status_code == 401
    again = sign_in(client, user)["access_token"]
    assert client.get(ME, token=again).status_code == 200
    assert [str(row.id) for row in stored()] == [kid_of(again)]


def test_tokens_of_every_key_that_has_not_run_out_are_good(
    fresh: Settings, client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    issued = [user.token]
    for _ in range(10):
        rotation.rotate(at_once=True, actor=OPERATOR)
        issued.append(sign_in(client, user)["access_token"])
    assert len({kid_of(token) for token in issued}) == 11
    assert [client.get(ME, token=token).status_code for token in issued] == [200] * 11
    published = client.get("/.well-known/jwks.json").json["keys"]
    assert {key["kid"] for key in published} == {kid_of(token) for token in issued}


@contextmanager
def machine(settings: Settings, *master_keys: tuple[int, bytes]) -> Iterator[Client]:
    """A machine that was just started with these master keys, on the same database."""
    yield Client(create_app(replace(settings, auth_master_keys=master_keys)))


@pytest.fixture
def first_install(fresh: Settings) -> Flask:
    """The application on an empty database, with the old master key alone."""
    return create_app(replace(fresh, auth_master_keys=(OLD,)))


def test_master_keys_are_changed_in_two_steps_and_nobody_notices(
    fresh: Settings, first_install: Flask, make_user: MakeUser, stored: Stored, at: At
) -> None:
    user = make_user()
    (before,) = stored()
    refresh = {"refresh_token": user.refresh_token}
    steps = [((OLD, NEW), 1), ((NEW, OLD), 2), ((OLD, NEW), 2), ((NEW, OLD), 2), ((NEW,), 2)]
    for master_keys, version in steps:
        with machine(fresh, *master_keys) as client:
            assert client.get(ME, token=user.token).status_code == 200
            assert client.get("/ready").json["checks"]["keys"] == "ok"
            answer = client.post("/api/v1/auth/refresh", json=refresh)
            assert answer.status_code == 200
            refresh = {"refresh_token": answer.json["refresh_token"]}
            assert client.get(ME, token=answer.json["access_token"]).status_code == 200
            (row,) = stored()
            assert (row.id, row.public_key) == (before.id, before.public_key)
            # A machine on which the old one still comes first doesn't turn it back.
            assert row.master_key_version == version


def test_a_machine_that_has_not_got_the_new_master_key_verifies_and_does_not_sign(
    fresh: Settings, first_install: Flask, make_user: MakeUser, at: At
) -> None:
    """The step in between was left out."""
    user = make_user()
    with machine(fresh, NEW, OLD) as client:
        assert client.get(ME, token=user.token).status_code == 200
    with machine(fresh, OLD) as client:
        assert client.get(ME, token=user.token).status_code == 200
        checks = client.get("/ready").json["checks"]
        assert checks["keys"] == "APP_AUTH_MASTER_KEYS doesn't open the signing key"
        with pytest.raises(KeysUnusable):
            keys.ring().signing()


def test_a_key_that_can_not_be_opened_hinders_no_other_one(
    fresh: Settings, first_install: Flask, stored: Stored, owner: Engine, at: At
) -> None:
    keys.ring().current()
    with owner.begin() as connection:
        connection.execute(
            text("UPDATE signing_keys SET private_key = decode(repeat('00', 60), 'hex')")
        )
    waiting = rotation.rotate(at_once=False, actor=OPERATOR).key_id
    with machine(fresh, NEW, OLD):
        keys.ring().current()
    assert {row.id: row.master_key_version for row in stored()} == {
        stored()[0].id: 1,
        waiting: 2,
    }


def test_every_new_version_of_the_master_key_is_audited(
    fresh: Settings, first_install: Flask, admin: TestUser
) -> None:
    with machine(fresh, NEW, OLD) as client:
        query = {"action": "keys.signing_key.reencrypted"}
        assert client.get("/ready").status_code == 200
        listed = client.get("/api/v1/audit/events", token=admin.token, query_string=query)
    (event,) = listed.json["items"]
    assert (event["subject_type"], event["actor_kind"]) == ("signing_key", "system")
    assert master.current_version() == 2


def test_a_change_of_the_algorithm_asks_everybody_for_a_refresh_and_for_nothing_more(
    fresh: Settings, client: Client, make_user: MakeUser
) -> None:
    user = make_user()
    shared = replace(fresh, auth_jwt_algorithm="HS256", auth_jwt_secret="s" * 40)
    token, refresh_token = user.token, user.refresh_token
    for settings in (shared, fresh):
        client = Client(create_app(settings))
        assert client.get(ME, token=token).status_code == 401
        answer = client.post("/api/v1/auth/refresh", json={"refresh_token": refresh_token})
        assert answer.status_code == 200
        token, refresh_token = answer.json["access_token"], answer.json["refresh_token"]
        assert client.get(ME, token=token).status_code == 200
