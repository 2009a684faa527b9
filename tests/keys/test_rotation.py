"""The life of signing keys: what the service does by itself, what an operator does, and races."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.keys import rotation
from app.keys.errors import NoSuchSigningKey
from app.keys.service import KeyRing
from app.keys.values import PUBLISHED_FOR, RETIRING_MARGIN
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.settings import Settings
from tests.keys.conftest import At, Stored

OPERATOR = Actor(kind="cli")
WORKERS = 8


def states(rows: Sequence[Any]) -> dict[UUID, str]:
    return {row.id: row.state for row in rows}


def events() -> list[tuple[str, UUID, str]]:
    """What was audited about keys: verb, key, kind of actor."""
    with reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT action, subject_id, actor_kind FROM audit_events"
            " WHERE subject_type = 'signing_key' ORDER BY created_at, id"
        )
        return [(row.action.rpartition(".")[2], row.subject_id, row.actor_kind) for row in rows]


def together(work: Callable[[], Any]) -> list[Any]:
    """Do something in many workers at once."""
    barrier = Barrier(WORKERS)

    def one(_worker: int) -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(one, range(WORKERS)))


def test_a_key_lives_through_all_its_states_by_itself(
    fresh: Settings, at: At, stored: Stored
) -> None:
    ring = KeyRing(fresh)
    first = UUID(ring.signing().signing_kid)
    assert states(stored()) == {first: "active"}
    rotated, moment = timedelta(days=fresh.auth_signing_key_days), timedelta(seconds=1)

    at(seconds=(rotated - moment).total_seconds())
    assert ring.latest().verifying.keys() == {str(first)}
    at(seconds=rotated.total_seconds())
    ring.latest()
    second = next(row.id for row in stored() if row.id != first)
    assert states(stored()) == {first: "active", second: "published"}
    assert ring.signing().signing_kid == str(first)
    assert ring.find(str(second)) is not None

    activated = rotated + PUBLISHED_FOR
    at(seconds=(activated - moment).total_seconds())
    ring.latest()
    assert states(stored()) == {first: "active", second: "published"}
    at(seconds=activated.total_seconds())
    ring.latest()
    assert states(stored()) == {first: "retiring", second: "active"}
    assert ring.signing().signing_kid == str(second)

    ended = activated + timedelta(seconds=fresh.auth_access_seconds) + RETIRING_MARGIN
    at(seconds=(ended - moment).total_seconds())
    ring.latest()
    assert ring.find(str(first)) is not None
    at(seconds=ended.total_seconds())
    ring.latest()
    assert states(stored()) == {second: "active"}
    assert ring.find(str(first)) is None

    assert events() == [
        ("created", first, "system"),
        ("activated", first, "system"),
        ("created", second, "system"),
        ("activated", second, "system"),
        ("deleted", first, "system"),
    ]


def test_any_request_sets_off_what_is_due(fresh: Settings, at: At, stored: Stored) -> None:
    """Nobody asks for the published set: the half-minute look of a worker is enough."""
    ring = KeyRing(fresh)
    ring.current()
    at(days=fresh.auth_signing_key_days)
    ring.current()
    assert sorted(row.state for row in stored()) == ["active", "published"]


def test_after_a_long_silence_a_key_is_still_published_before_it_signs(
    fresh: Settings, at: At, stored: Stored
) -> None:
    first = KeyRing(fresh).signing().signing_kid
    at(days=1000)
    ring = KeyRing(fresh)
    assert ring.signing().signing_kid == first
    assert [row.state for row in stored()] == ["active", "published"]
    at(days=1000, minutes=20)
    assert KeyRing(fresh).signing().signing_kid == str(stored()[1].id)


def test_workers_that_see_a_step_come_due_take_it_once(
    fresh: Settings, at: At, stored: Stored
) -> None:
    rings = [KeyRing(fresh) for _ in range(WORKERS)]
    together(lambda: rings[0].current())
    for minutes in (0, 20, 40, 60, 80):
        at(days=fresh.auth_signing_key_days, minutes=minutes)
        barrier = Barrier(WORKERS)

        def look(ring: KeyRing, barrier: Barrier = barrier) -> int:
            barrier.wait()
            return len(ring.latest().verifying)

        with ThreadPoolExecutor(WORKERS) as threads:
            assert len(set(threads.map(look, rings))) == 1
    verbs = [verb for verb, _, _ in events()]
    assert verbs == ["created", "activated", "created", "activated", "deleted"]
    assert [row.state for row in stored()] == ["active"]


def test_an_operator_publishes_the_next_key_now(fresh: Settings, at: At, stored: Stored) -> None:
    ring = KeyRing(fresh)
    first = ring.signing().signing_kid
    at(minutes=1)
    done = rotation.rotate(at_once=False, actor=OPERATOR)
    assert (done.is_new, done.signs_at) == (True, at(minutes=1) + PUBLISHED_FOR)
    at(minutes=2)
    again = rotation.rotate(at_once=False, actor=OPERATOR)
    assert again == rotation.Rotation(key_id=done.key_id, signs_at=done.signs_at, is_new=False)
    assert [row.state for row in stored()] == ["active", "published"]
    assert ring.signing().signing_kid == first
    at(minutes=21)
    ring.latest()
    assert ring.signing().signing_kid == str(done.key_id)
    assert events()[2:] == [
        ("created", done.key_id, "cli"),
        ("activated", done.key_id, "system"),
    ]


def test_operators_who_rotate_together_publish_one_key(
    fresh: Settings, at: At, stored: Stored
) -> None:
    done = together(lambda: rotation.rotate(at_once=False, actor=OPERATOR))
    assert [one.is_new for one in done].count(True) == 1
    assert len({one.key_id for one in done}) == 1
    assert [row.state for row in stored()] == ["active", "published"]


@pytest.mark.parametrize("one_waits", [False, True])
def test_in_an_emergency_the_next_key_signs_at_once(
    fresh: Settings, at: At, stored: Stored, one_waits: bool
) -> None:
    ring, stale = KeyRing(fresh), KeyRing(fresh)
    first = ring.signing().signing_kid
    stale.current()
    if one_waits:
        rotation.rotate(at_once=False, actor=OPERATOR)
    done = rotation.rotate(at_once=True, actor=OPERATOR)
    assert (done.is_new, done.signs_at) == (not one_waits, at())
    assert [row.state for row in stored()] == ["retiring", "active"]
    for worker in (ring, stale):
        assert worker.signing().signing_kid == str(done.key_id)
        assert worker.find(first) is not None


def test_emergencies_together_leave_one_active_key(fresh: Settings, at: At, stored: Stored) -> None:
    together(lambda: rotation.rotate(at_once=True, actor=OPERATOR))
    assert [row.state for row in stored()].count("active") == 1
    assert [row.state for row in stored()].count("retiring") == WORKERS


def test_when_the_active_key_is_revoked_the_published_one_signs(
    fresh: Settings, at: At, stored: Stored
) -> None:
    ring = KeyRing(fresh)
    first = UUID(ring.signing().signing_kid)
    waiting = rotation.rotate(at_once=False, actor=OPERATOR).key_id
    assert rotation.revoke(key_id=first, actor=OPERATOR) == waiting
    assert states(stored()) == {first: "revoked", waiting: "active"}
    assert ring.signing().signing_kid == str(waiting)
    assert ring.find(str(first)) is None
    assert events()[3:] == [("revoked", first, "cli"), ("activated", waiting, "system")]


def test_when_the_only_key_is_revoked_a_new_one_signs(
    fresh: Settings, at: At, stored: Stored
) -> None:
    first = UUID(KeyRing(fresh).signing().signing_kid)
    new = rotation.revoke(key_id=first, actor=OPERATOR)
    assert states(stored()) == {first: "revoked", new: "active"}


def test_keys_that_do_not_sign_are_revoked_too_and_once(
    fresh: Settings, at: At, stored: Stored
) -> None:
    ring = KeyRing(fresh)
    retiring = UUID(ring.signing().signing_kid)
    active = rotation.rotate(at_once=True, actor=OPERATOR).key_id
    waiting = rotation.rotate(at_once=False, actor=OPERATOR).key_id
    for key_id in (retiring, waiting, waiting):
        assert rotation.revoke(key_id=key_id, actor=OPERATOR) == active
    assert states(stored()) == {retiring: "revoked", active: "active", waiting: "revoked"}
    assert [verb for verb, _, _ in events()].count("revoked") == 2
    assert ring.latest().verifying.keys() == {str(active)}


def test_revocations_of_one_key_together_make_one_new_key(
    fresh: Settings, at: At, stored: Stored
) -> None:
    first = UUID(KeyRing(fresh).signing().signing_kid)
    new = together(lambda: rotation.revoke(key_id=first, actor=OPERATOR))
    assert states(stored()) == {first: "revoked", new[0]: "active"}
    assert set(new) == {new[0]}
    assert [verb for verb, _, _ in events()].count("revoked") == 1


def test_a_key_that_nobody_has_is_not_revoked(fresh: Settings, at: At) -> None:
    with pytest.raises(NoSuchSigningKey):
        rotation.revoke(key_id=uuid4(), actor=OPERATOR)


def test_a_revoked_key_is_deleted_when_its_tokens_are_over(
    fresh: Settings, at: At, stored: Stored
) -> None:
    ring = KeyRing(fresh)
    first = UUID(ring.signing().signing_kid)
    at(minutes=5)
    new = rotation.revoke(key_id=first, actor=OPERATOR)
    ended = timedelta(minutes=5, seconds=fresh.auth_access_seconds) + RETIRING_MARGIN
    at(seconds=ended.total_seconds() - 1)
    ring.latest()
    assert states(stored()) == {first: "revoked", new: "active"}
    at(seconds=ended.total_seconds())
    ring.latest()
    assert states(stored()) == {new: "active"}


def test_a_key_that_was_revoked_in_the_database_by_hand_stays(
    fresh: Settings, at: At, stored: Stored
) -> None:
    ring = KeyRing(fresh)
    first = UUID(ring.signing().signing_kid)
    with transaction() as session:
        session.execute(text("UPDATE signing_keys SET state = 'revoked'"))
    assert ring.signing().signing_kid != str(first)
    at(days=1)
    ring.latest()
    assert states(stored())[first] == "revoked"
