"""The key ring, and the public keys as clients see them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from time import sleep
from typing import Any
from uuid import uuid4

import jwt
import pytest
import time_machine
from sqlalchemy import Engine, Row, make_url, text

from app.keys import rotation
from app.keys import service as keys
from app.keys.service import RELOAD_SECONDS, UNKNOWN_KEY_SECONDS, KeyRing
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.errors import Unavailable
from app.platform.settings import Settings
from tests.client import Client
from tests.database import pool_on
from tests.keys.conftest import At, Stored
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
LOCK = text("SELECT pg_advisory_xact_lock(4201973)")
JWKS = "/.well-known/jwks.json"


@pytest.fixture
def ring(settings: Settings, app: object) -> KeyRing:
    """A key ring of its own, as a worker has it that has just started."""
    return KeyRing(settings)


def test_the_published_key_verifies_an_access_token(
    client: Client, make_user: Callable[..., TestUser], settings: Settings
) -> None:
    user = make_user()
    answer = client.get(JWKS)
    assert answer.status_code == 200
    # There may be more: other tests move the clock, and the keys move on with it.
    kid = jwt.get_unverified_header(user.token)["kid"]
    (key,) = (key for key in answer.json["keys"] if key["kid"] == kid)
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}
    claims = jwt.decode(
        user.token,
        jwt.PyJWK(key).key,
        algorithms=["EdDSA"],
        audience=settings.auth_audience,
        issuer=settings.auth_issuer,
    )
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
        ring = KeyRing(empty_database)
        barrier.wait()
        return ring.current().signing_kid

    with ThreadPoolExecutor(8) as threads:
        kids = set(threads.map(start, range(8)))
    assert len(kids) == 1
    with reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT k.id, k.state, e.action FROM signing_keys k"
            " LEFT JOIN audit_events e ON e.subject_id = k.id ORDER BY e.created_at, e.id"
        ).all()
    assert [(str(row.id), row.state, row.action) for row in rows] == [
        (*kids, "active", "keys.signing_key.created"),
        (*kids, "active", "keys.signing_key.activated"),
    ]


def test_the_private_key_is_not_readable_in_the_database(
    ring: KeyRing, sql: Callable[..., list[Row[Any]]]
) -> None:
    secret = ring.current().signing_key.private_bytes_raw()
    stored = sql("SELECT private_key FROM signing_keys WHERE state = 'active'")[0][0]
    assert secret not in bytes(stored)


def test_tokens_with_made_up_keys_cost_no_query_unless_they_look_like_ours(
    ring: KeyRing, looks: list[str]
) -> None:
    ring.current()
    looks.clear()
    made_up = [None, "", "made up", "../keys", str(uuid4()).upper(), uuid4().hex, f"{{{uuid4()}}}"]
    assert [ring.find(kid) for kid in made_up] == [None] * len(made_up)
    assert looks == []


def test_a_made_up_key_costs_one_query_in_five_seconds(ring: KeyRing, looks: list[str]) -> None:
    ring.current()
    looks.clear()
    kid, other = str(uuid4()), str(uuid4())
    with time_machine.travel(clock.time(), tick=False) as moved:
        assert [ring.find(kid) for _ in range(50)] == [None] * 50
        assert len(looks) == 1
        assert ring.find(other) is None
        assert len(looks) == 2
        moved.shift(UNKNOWN_KEY_SECONDS + 1)
        assert ring.find(kid) is None
        assert len(looks) == 3


def test_made_up_keys_that_arrive_together_share_their_looks(
    ring: KeyRing, looks: list[str], owner_engine: Engine
) -> None:
    """The table is locked until all of them wait, so that they do arrive together."""
    ring.current()
    looks.clear()
    with ThreadPoolExecutor(20) as threads:
        with owner_engine.execution_options(isolation_level="READ COMMITTED").begin() as owner:
            owner.exec_driver_sql("LOCK TABLE signing_keys")
            found = [threads.submit(ring.find, str(uuid4())) for _ in range(20)]
            sleep(0.3)
        assert [one.result() for one in found] == [None] * 20
    assert len(looks) <= 2


def test_those_who_share_a_look_that_fails_are_all_told_so(
    fresh: Settings, owner: Engine, cut: Callable[[], None]
) -> None:
    """The key may be there: a token of it isn't refused because the database was away."""
    ring = KeyRing(fresh)
    ring.current()
    with ThreadPoolExecutor(8) as threads, owner.begin() as elsewhere:
        elsewhere.exec_driver_sql("LOCK TABLE signing_keys")
        found = [threads.submit(ring.find, str(uuid4())) for _ in range(8)]
        sleep(0.3)
        cut()
        cut()
        for one in found:
            with pytest.raises(Unavailable):
                one.result(timeout=5)


def test_the_memory_of_unknown_keys_is_bounded(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_UNKNOWN_KEYS", 3)
    for _ in range(10):
        ring.find(str(uuid4()))
        assert len(ring._unknown) <= 3


def test_a_key_that_another_worker_has_just_made_is_found_at_once(
    empty_database: Settings, app: object
) -> None:
    ring, made_up = KeyRing(empty_database), str(uuid4())
    before = ring.current()
    assert ring.find(made_up) is None
    made = str(rotation.rotate(at_once=False, actor=Actor(kind="cli")).key_id)
    assert ring.find(made) is not None
    after = ring.current()
    assert after is not before
    assert after.signing_kid == before.signing_kid


def test_while_the_database_is_away_the_keys_in_memory_are_published(
    settings: Settings, app: object, client: Client
) -> None:
    keys_before = client.get(JWKS).json
    nowhere = make_url(settings.database_url).set(database="nowhere")
    away = replace(settings, database_url=nowhere.render_as_string(hide_password=False))
    with pool_on(away, instead_of=settings, size=1):
        assert client.get(JWKS).json == keys_before
        with pytest.raises(Unavailable):
            keys.ring().signing()
        with pytest.raises(Unavailable):
            KeyRing(settings).latest()
        with time_machine.travel(clock.time() + RELOAD_SECONDS + 1, tick=False):
            assert keys.ring().current().signing_kid == keys_before["keys"][0]["kid"]


def test_an_unchanged_set_stays_the_same_object(ring: KeyRing, looks: list[str]) -> None:
    before = ring.current()
    looks.clear()
    with time_machine.travel(clock.time() + RELOAD_SECONDS + 1, tick=False):
        assert ring.current() is before
    assert len(looks) == 1


def test_with_a_shared_secret_nothing_is_published(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = replace(settings, auth_jwt_algorithm="HS256", auth_jwt_secret="s" * 40)
    ring = KeyRing(shared)
    monkeypatch.setattr(keys, "_ring", ring)
    assert client.get(JWKS).json == {"keys": []}
    assert ring.find(None) == "s" * 40
    assert ring.find("any") is None


def test_a_worker_that_can_not_rotate_goes_on_with_its_keys(
    fresh: Settings,
    at: At,
    stored: Stored,
    owner: Engine,
    cut: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    ring = KeyRing(fresh)
    first = ring.signing().signing_kid
    at(days=fresh.auth_signing_key_days)
    with owner.begin() as elsewhere, ThreadPoolExecutor(1) as thread:
        elsewhere.execute(LOCK)
        looking = thread.submit(ring.latest)
        cut()
        assert looking.result().signing_kid == first
    assert "signing_keys_not_rotated" in capfd.readouterr().err
    assert [row.state for row in stored()] == ["active"]
    ring.latest()
    assert [row.state for row in stored()] == ["active", "published"]


def test_a_worker_that_can_not_make_the_first_key_is_unavailable(
    fresh: Settings, stored: Stored, owner: Engine, cut: Callable[[], None]
) -> None:
    ring = KeyRing(fresh)
    with owner.begin() as elsewhere, ThreadPoolExecutor(1) as thread:
        elsewhere.execute(LOCK)
        looking = thread.submit(ring.current)
        cut()
        with pytest.raises(Unavailable):
            looking.result()
    assert [row.state for row in stored()] == []
    assert ring.current().signing_kid == str(stored()[0].id)
