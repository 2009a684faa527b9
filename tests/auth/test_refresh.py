"""Refresh tokens: the rules of rotation, grace and reuse, one test for each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from sqlalchemy import Engine, text

from app.platform import clock
from tests.auth.refreshing import (
    REFRESH,
    Sql,
    Tokens,
    assert_refused,
    refresh,
    renewed,
    stored,
    use,
)
from tests.client import Client
from tests.people import SET_STATUS, TestUser
from tests.watching import (
    transaction_of_another,
    wait_until_somebody_waits_for,
)

MakeUser = Callable[..., TestUser]


def later(**by: float) -> time_machine.travel:
    return time_machine.travel(clock.now() + timedelta(**by), tick=True)


def test_the_current_token_is_exchanged_for_new_ones(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    answer = refresh(client, signed_in)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    new = answer.json
    assert new["session_id"] == signed_in["session_id"]
    assert new["refresh_token"] != signed_in["refresh_token"]
    assert new["access_token"] != signed_in["access_token"]
    assert (use(client, new), use(client, signed_in)) == (200, 200)
    assert stored(sql, new)["generation"] == 2


def test_the_token_before_is_good_while_the_new_one_may_be_lost(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    new = renewed(client, signed_in)
    assert stored(sql, new)["confirmed_at"] is None
    with later(days=1):
        again = renewed(client, signed_in)
        assert again["refresh_token"] == new["refresh_token"]
        assert stored(sql, new)["generation"] == 2
        assert use(client, again) == 200


def test_the_token_before_is_good_for_half_a_minute_after_the_new_one_was_used(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    new = renewed(client, signed_in)
    assert use(client, new) == 200
    confirmed_at = stored(sql, new)["confirmed_at"]
    assert confirmed_at is not None
    with later(seconds=25):
        assert renewed(client, signed_in)["refresh_token"] == new["refresh_token"]
        assert use(client, new) == 200
    assert stored(sql, new)["confirmed_at"] == confirmed_at
    with later(seconds=31):
        assert_refused(refresh(client, signed_in), "SESSION_REVOKED")


def test_refreshing_with_the_new_token_makes_the_one_two_before_a_reuse(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    second = renewed(client, signed_in)
    third = renewed(client, second)
    assert stored(sql, third)["generation"] == 3
    assert_refused(refresh(client, signed_in), "SESSION_REVOKED")


def test_reuse_ends_that_login_session_alone_and_is_recorded_once(
    client: Client, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    body = {"email": user.email, "password": user.password}
    phone, laptop = (client.post("/api/v1/auth/login", json=body).json for _ in range(2))
    new = renewed(client, renewed(client, phone))
    for _ in range(2):
        assert_refused(refresh(client, phone), "SESSION_REVOKED")
    assert_refused(refresh(client, new), "SESSION_REVOKED")
    assert (use(client, new), use(client, phone), use(client, laptop)) == (401, 401, 200)
    assert renewed(client, laptop)
    assert stored(sql, phone)["ended_reason"] == "reuse"
    found = sql(
        "SELECT actor_kind, actor_id, details FROM audit_events"
        " WHERE subject_id = :id AND action = 'auth.token.reused'",
        id=user.id,
    )
    details = {"session_id": phone["session_id"], "generation": 3, "sent_generation": 1}
    assert [tuple(row) for row in found] == [("system", None, details)]


def test_many_who_refresh_together_rotate_once_and_nobody_is_signed_out(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    for generation in range(2, 22):
        together = Barrier(20)

        def send(_number: int, current: Tokens = signed_in, gate: Barrier = together) -> Tokens:
            gate.wait()
            return renewed(client, current)

        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(send, range(20)))
        assert len({answer["refresh_token"] for answer in answers}) == 1
        assert stored(sql, signed_in)["generation"] == generation
        assert {use(client, answer) for answer in answers} == {200}
        signed_in = answers[0]
    assert stored(sql, signed_in)["ended_at"] is None


def test_who_lost_the_race_looks_again_and_takes_nothing_back(
    client: Client, signed_in: Tokens, sql: Sql, owner_engine: Engine
) -> None:
    with ThreadPoolExecutor(1) as thread:
        with transaction_of_another(owner_engine) as connection:
            # Two rotations by somebody who was quicker; this one has read the first generation.
            connection.execute(
                text("UPDATE login_sessions SET generation = 3 WHERE id = :id"),
                {"id": signed_in["session_id"]},
            )
            sent = thread.submit(refresh, client, signed_in)
            wait_until_somebody_waits_for(connection)
        assert_refused(sent.result(), "SESSION_REVOKED")
    assert (stored(sql, signed_in)["generation"], stored(sql, signed_in)["ended_reason"]) == (
        3,
        "reuse",
    )


def test_reuse_by_many_together_is_recorded_once(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    renewed(client, renewed(client, signed_in))
    together = Barrier(8)

    def send(_number: int) -> str:
        together.wait()
        answer = refresh(client, signed_in)
        code: str = answer.json["error"]["code"]
        return code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(send, range(8))) == {"SESSION_REVOKED"}
    found = sql(
        "SELECT 1 FROM audit_events WHERE subject_id = :id AND action = 'auth.token.reused'",
        id=signed_in["user_id"],
    )
    assert len(found) == 1


def test_a_login_session_runs_out_when_it_is_not_used(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    with later(days=29):
        signed_in = renewed(client, signed_in)
    with later(days=58):
        signed_in = renewed(client, signed_in)
    with later(days=89):
        assert_refused(refresh(client, signed_in), "SESSION_REVOKED")
    assert stored(sql, signed_in)["ended_at"] is None


def test_a_login_session_runs_out_after_ninety_days_however_much_it_is_used(
    client: Client, signed_in: Tokens
) -> None:
    for day in (25, 50, 75, 89):
        with later(days=day):
            signed_in = renewed(client, signed_in)
    with later(days=90, seconds=1):
        assert use(client, signed_in) == 401
        assert_refused(refresh(client, signed_in), "SESSION_REVOKED")


@pytest.mark.parametrize("status", ["suspended", "deleting", "erased"])
def test_a_user_who_may_not_sign_in_may_not_refresh(
    client: Client, signed_in: Tokens, sql: Sql, status: str
) -> None:
    sql(SET_STATUS, status=status, id=signed_in["user_id"])
    assert use(client, signed_in) == 401
    assert_refused(refresh(client, signed_in), "SESSION_REVOKED")
    sql(SET_STATUS, status="active", id=signed_in["user_id"])
    assert renewed(client, signed_in)


@pytest.mark.parametrize("body", [{"refresh_token": 1}, {"refresh_token": "x" * 1001}])
def test_a_refresh_of_the_wrong_shape_is_refused(client: Client, body: dict[str, Any]) -> None:
    answer = client.post(REFRESH, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "VALIDATION_ERROR")


def test_a_refresh_without_any_token_is_refused(client: Client) -> None:
    assert_refused(client.post(REFRESH, json={}), "INVALID_REFRESH_TOKEN")
    assert_refused(client.post(REFRESH), "INVALID_REFRESH_TOKEN")


def test_a_request_of_a_confirmed_login_session_writes_nothing(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    new = renewed(client, signed_in)

    def written_by() -> Any:
        """The transaction that wrote the login session's row last."""
        ((transaction,),) = sql(
            "SELECT CAST(xmin AS text) FROM login_sessions WHERE id = :id", id=new["session_id"]
        )
        return transaction

    seen = [written_by()]
    for _ in range(3):
        assert use(client, new) == 200
        seen.append(written_by())
    assert seen[0] != seen[1]
    assert seen[1:] == [seen[1]] * 3
