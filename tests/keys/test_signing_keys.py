"""The key ring, and the public keys as clients see them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import jwt
import pytest
import time_machine
from sqlalchemy import Row, event
from sqlalchemy.engine import Engine

from app.audit import service as audit
from app.keys import service as keys
from app.keys.service import RELOAD_SECONDS, UNKNOWN_KEY_SECONDS, KeyRing
from app.platform import clock
from app.platform.db import reading
from app.platform.settings import Settings
from tests.client import Client
from tests.people import TestUser

JWKS = "/.well-known/jwks.json"


@pytest.fixture
def ring(settings: Settings, app: object) -> KeyRing:
    """A key ring of its own, as a worker has it that has just started."""
    return KeyRing(settings, audit.record_signing_key)


@pytest.fixture
def looks() -> Iterator[list[str]]:
    """The statements that read signing keys."""
    found: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "signing_keys" in statement:
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


def test_the_published_key_verifies_an_access_token(
    client: Client, make_user: Callable[..., TestUser], settings: Settings
) -> None:
    user = make_user()
    answer = client.get(JWKS)
    assert answer.status_code == 200
    (key,) = answer.json["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}
    claims = jwt.decode(
        user.token,
        jwt.PyJWK(key).key,
        algorithms=["EdDSA"],
        audience=settings.auth_audience,
        issuer=settings.auth_issuer,
    )
    assert jwt.get_unverified_header(user.token)["kid"] == key["kid"]
    assert claims["sub"] == str(user.id)


def test_public_keys_are_cached_for_ten_minutes_and_asked_for_again_by_etag(client: Client) -> None:
    first = client.get(JWKS)
    assert first.headers["Cache-Control"] == "public, max-age=600"
    again = client.get(JWKS, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client.get(JWKS, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_workers_that_start_together_make_one_key(
    empty_database: Settings, app: object, sql: object
) -> None:
    barrier = Barrier(8)

    def start(_worker: int) -> str | None:
        ring = KeyRing(empty_database, audit.record_signing_key)
        barrier.wait()
        return ring.current().signing_kid

    with ThreadPoolExecutor(8) as threads:
        kids = set(threads.map(start, range(8)))
    assert len(kids) == 1
    with reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT k.id, k.state, e.action FROM signing_keys k"
            " LEFT JOIN audit_events e ON e.subject_id = k.id"
        ).all()
    assert [(str(row.id), row.state, row.action) for row in rows] == [
        (*kids, "active", "keys.signing_key.created")
    ]


def test_the_private_key_is_not_readable_in_the_database(
    ring: KeyRing, sql: Callable[..., list[Row[Any]]]
) -> None:
    secret = ring.current().signing_key.private_bytes_raw()
    stored = sql("SELECT private_key FROM signing_keys WHERE state = 'active'")[0][0]
    assert secret not in bytes(stored)


def test_tokens_with_made_up_keys_cost_no_query_each(ring: KeyRing, looks: list[str]) -> None:
    ring.current()
    with time_machine.travel(clock.time() + UNKNOWN_KEY_SECONDS + 1, tick=False):
        looks.clear()
        assert [ring.find(f"made up {number}") for number in range(50)] == [None] * 50
        assert len(looks) == 1


def test_a_key_that_another_worker_has_published_is_found_when_a_token_names_it(
    ring: KeyRing, sql: Callable[..., list[Row[Any]]]
) -> None:
    before = ring.current()
    ((kid,),) = sql(
        "INSERT INTO signing_keys (id, state, public_key, private_key, master_key_version,"
        " created_at) SELECT gen_random_uuid(), 'published', public_key, private_key,"
        " master_key_version, created_at FROM signing_keys WHERE state = 'active' RETURNING id"
    )
    try:
        assert ring.find(str(kid)) is None
        with time_machine.travel(clock.time() + UNKNOWN_KEY_SECONDS + 1, tick=False):
            assert ring.find(str(kid)) is not None
        after = ring.current()
        assert (after.version, after.signing_kid) == (before.version + 1, before.signing_kid)
    finally:
        sql("DELETE FROM signing_keys WHERE id = :id", id=kid)


def test_a_revoked_key_is_gone_after_the_interval(
    ring: KeyRing, sql: Callable[..., list[Row[Any]]]
) -> None:
    kid = ring.current().signing_kid
    sql("UPDATE signing_keys SET state = 'revoked' WHERE id = CAST(:id AS uuid)", id=kid)
    try:
        with time_machine.travel(clock.time() + RELOAD_SECONDS + 1, tick=False):
            assert ring.current().signing_kid != kid
            assert ring.find(kid) is None
    finally:
        sql("DELETE FROM signing_keys WHERE state = 'active'")
        sql("UPDATE signing_keys SET state = 'active' WHERE id = CAST(:id AS uuid)", id=kid)


def test_an_unchanged_set_keeps_its_version(ring: KeyRing, looks: list[str]) -> None:
    before = ring.current()
    looks.clear()
    with time_machine.travel(clock.time() + RELOAD_SECONDS + 1, tick=False):
        assert ring.current() is before
    assert len(looks) == 1


def test_with_a_shared_secret_nothing_is_published(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = replace(settings, auth_jwt_algorithm="HS256", auth_jwt_secret="s" * 40)
    ring = KeyRing(shared, audit.record_signing_key)
    monkeypatch.setattr(keys, "_ring", ring)
    assert client.get(JWKS).json == {"keys": []}
    assert ring.find(None) == "s" * 40
    assert ring.find("any") is None
