"""Guessing passwords is limited; that neither tells who has an account nor locks anybody out."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import Row

from app.platform.errors import Overloaded
from app.platform.settings import Settings
from app.users import passwords
from tests.client import Client
from tests.limiting import SwitchOn, assert_limited, later, switching
from tests.people import TestUser

Sql = Callable[..., list[Row[Any]]]
MakeUser = Callable[..., TestUser]
LOGIN = "/api/v1/auth/login"
REGISTER = "/api/v1/users"
MINUTES_15 = 900
_numbers = count(1)


@pytest.fixture
def limited(settings: Settings, app: Flask) -> Iterator[SwitchOn]:
    """The limits are on; those of all requests are too high to meet."""
    with switching(settings) as switch_on:
        switch_on(rate_limit_anonymous_per_minute=100_000, rate_limit_user_per_minute=100_000)
        yield switch_on


def elsewhere() -> str:
    """Return an address that no guess has come from."""
    return f"2001:db8:0:{next(_numbers):x}::1"


def nobody() -> str:
    return f"{uuid4().hex}@example.com"


def guess(client: Client, email: str, password: str = "wrong", **options: Any) -> Any:
    address = options.pop("address", None) or elsewhere()
    return client.post(
        LOGIN,
        json={"email": email, "password": password} | options,
        environ_base={"REMOTE_ADDR": address},
    )


def statuses(answers: Any) -> list[int]:
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("known", [True, False])
def test_ten_guesses_of_one_identity_from_anywhere(
    client: Client, limited: SwitchOn, make_user: MakeUser, known: bool
) -> None:
    email = make_user().email if known else nobody()
    with later(0):
        assert statuses(guess(client, email) for _ in range(10)) == [401] * 10
        assert_limited(guess(client, email.upper()), limit=10, within=MINUTES_15)
    with later(MINUTES_15 - 10):
        assert guess(client, email).status_code == 429
    with later(MINUTES_15 + 1):
        assert guess(client, email).status_code == 401


def test_five_guesses_of_one_identity_from_one_address(
    client: Client, limited: SwitchOn, make_user: MakeUser
) -> None:
    """And those that are refused for that use up nothing of the identity's ten."""
    user, address = make_user(), elsewhere()
    with later(0):
        assert statuses(guess(client, user.email, address=address) for _ in range(5)) == [401] * 5
        for _ in range(20):
            answer = guess(client, user.email, user.password, address=address)
            assert_limited(answer, limit=5, within=MINUTES_15)
        assert statuses(guess(client, user.email) for _ in range(6)) == [401] * 5 + [429]


def test_what_the_identity_refuses_does_not_renew_the_time_of_the_address(
    client: Client, limited: SwitchOn
) -> None:
    """Or who tries again and again, and is refused for others' guesses, would never be let in."""
    email, address = nobody(), elsewhere()
    with later(0):
        assert guess(client, email, address=address).status_code == 401
        assert statuses(guess(client, email) for _ in range(9)) == [401] * 9
    with later(MINUTES_15 - 10):
        assert guess(client, email, address=address).status_code == 429
    with later(MINUTES_15 + 1):
        assert statuses(guess(client, email, address=address) for _ in range(6)) == (
            [401] * 5 + [429]
        )


def test_a_hundred_guesses_from_one_network(client: Client, limited: SwitchOn) -> None:
    with later(0):
        network = elsewhere().removesuffix("::1")
        answers = [guess(client, nobody(), address=f"{network}::{i:x}") for i in range(101)]
        assert statuses(answers) == [401] * 100 + [429]
        assert_limited(answers[-1], limit=100, within=MINUTES_15)
        assert guess(client, nobody()).status_code == 401


def test_a_right_password_counts_nothing(
    client: Client, limited: SwitchOn, make_user: MakeUser
) -> None:
    user, address = make_user(), elsewhere()
    for _ in range(12):
        assert guess(client, user.email, user.password, address=address).status_code == 200
    assert statuses(guess(client, user.email, address=address) for _ in range(6)) == (
        [401] * 5 + [429]
    )


def test_a_suspended_user_with_the_right_password_counts_nothing(
    client: Client, limited: SwitchOn, make_user: MakeUser, sql: Sql
) -> None:
    user = make_user()
    sql("UPDATE users SET status = 'suspended' WHERE id = :id", id=user.id)
    answers = [guess(client, user.email, user.password) for _ in range(12)]
    assert statuses(answers) == [403] * 12


def test_what_was_not_decided_counts_nothing(
    client: Client, limited: SwitchOn, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()

    def busy(*_: object) -> bool:
        raise Overloaded

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "verify", busy)
        assert statuses(guess(client, user.email) for _ in range(12)) == [503] * 12
    assert guess(client, user.email).status_code == 401


def test_what_was_cut_off_while_it_was_decided_counts(
    client: Client, limited: SwitchOn, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = make_user()

    def cut(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "verify", cut)
        for _ in range(10):
            with pytest.raises(KeyboardInterrupt):
                guess(client, user.email)
    assert guess(client, user.email).status_code == 429


def test_of_many_guesses_at_once_ten_are_tried(
    app: Flask, limited: SwitchOn, make_user: MakeUser, sql: Sql
) -> None:
    """Seen failing when it was looked before the hash and counted after it."""
    user, start = make_user(), Barrier(8)
    # As slow as in production, or they would be one after the other.
    slow = passwords._context.using(argon2__memory_cost=19456, argon2__time_cost=2)
    hashed = slow.hash(user.password)
    sql("UPDATE users SET password_hash = :hash WHERE id = :id", hash=hashed, id=user.id)

    def many(_: int) -> list[int]:
        client = Client(app)
        start.wait()
        return statuses(guess(client, user.email) for _ in range(8))

    with ThreadPoolExecutor(8) as threads:
        answered = [status for answers in threads.map(many, range(8)) for status in answers]
    assert (answered.count(401), answered.count(429)) == (10, 54)
    failures = "SELECT count(*) FROM audit_events WHERE subject_id = :id AND action = :action"
    assert sql(failures, id=user.id, action="auth.login.failed")[0][0] == 10


def test_nobody_is_locked_out_on_a_device_that_is_known(
    client: Client, limited: SwitchOn, make_user: MakeUser
) -> None:
    """A stranger, even at the same address, uses up none of its allowance, nor it any of his."""
    user, address = make_user(), elsewhere()
    device = guess(client, user.email, user.password, address=address).json["device_token"]
    with later(0):
        for _ in range(5):
            guess(client, user.email, address=address)
        for _ in range(5):
            guess(client, user.email)
        assert guess(client, user.email, user.password, address=address).status_code == 429
        known = {"device_token": device, "address": address}
        assert statuses(guess(client, user.email, **known) for _ in range(9)) == [401] * 9
        assert guess(client, user.email, user.password, **known).status_code == 200
        answers = [guess(client, user.email, **known) for _ in range(2)]
        assert statuses(answers) == [401, 429]
        assert_limited(answers[-1], limit=10, within=MINUTES_15)


def test_a_device_of_another_user_has_no_allowance(
    client: Client, limited: SwitchOn, make_user: MakeUser
) -> None:
    user, thief = make_user(), make_user()
    device = guess(client, thief.email, thief.password).json["device_token"]
    answers = [guess(client, user.email, device_token=device) for _ in range(11)]
    assert statuses(answers) == [401] * 10 + [429]
    assert statuses(guess(client, nobody(), device_token=device) for _ in range(2)) == [401, 401]


def test_known_and_unknown_identities_are_counted_and_refused_alike(
    client: Client, limited: SwitchOn, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    emails, limiter = [make_user().email, nobody()], limited()
    noted: list[list[Any]] = []
    for name in ("take", "give_back"):
        original = getattr(limiter._shared, name)

        def note(key: bytes, original: Any = original, name: str = name, **options: Any) -> Any:
            noted[-1].append((name, options))
            return original(key, **options)

        monkeypatch.setattr(limiter._shared, name, note)
    bodies = []
    same = {"X-Request-Id": "same"}
    for email in emails:
        address = elsewhere()
        noted.append([])
        with later(0):
            for _ in range(7):
                answer = client.post(
                    LOGIN,
                    json={"email": email, "password": "wrong"},
                    environ_base={"REMOTE_ADDR": address},
                    headers=same,
                )
        bodies.append((answer.status_code, answer.data, str(answer.headers)))
    assert noted[0] == noted[1]
    assert bodies[0] == bodies[1]
    assert bodies[0][0] == 429


def test_sign_in_without_an_address_is_counted_by_identity(
    client: Client, limited: SwitchOn
) -> None:
    email = nobody()
    answers = [
        client.post(
            LOGIN,
            json={"email": email, "password": "wrong"},
            environ_base={"REMOTE_ADDR": ""},
        )
        for _ in range(11)
    ]
    assert statuses(answers) == [401] * 10 + [429]


def test_refused_sign_ups_are_limited_by_identity(client: Client, limited: SwitchOn) -> None:
    email = nobody()

    def register(name: str, password: str = "correct-horse-7-battery") -> Any:
        body = {"email": email, "name": name, "password": password}
        return client.post(REGISTER, json=body, environ_base={"REMOTE_ADDR": elsewhere()})

    with later(0):
        assert register("", "").status_code == 422
        assert register("Ada", "password").status_code == 422
        assert register("Ada").status_code == 201
        assert statuses(register("Ada") for _ in range(9)) == [409] * 9
        assert_limited(register("Ada"), limit=10, within=MINUTES_15)


def test_signing_up_is_given_back(client: Client, limited: SwitchOn) -> None:
    address = elsewhere()

    def register(email: str) -> Any:
        body = {"email": email, "name": "Ada", "password": "correct-horse-7-battery"}
        return client.post(REGISTER, json=body, environ_base={"REMOTE_ADDR": address})

    with later(0):
        assert statuses(register(nobody()) for _ in range(101)) == [201] * 101


def test_whoever_uses_up_an_address_does_not_lock_out_the_devices_behind_it(
    client: Client, limited: SwitchOn, make_user: MakeUser
) -> None:
    user, address = make_user(), elsewhere()
    here = {"environ_base": {"REMOTE_ADDR": address}}
    body = {"email": user.email, "password": user.password}
    limited(rate_limit_anonymous_per_minute=2)
    with later(0):
        known = client.post(LOGIN, json=body, **here).json["device_token"]
        assert statuses(client.get("/", **here) for _ in range(2)) == [200, 429]
        assert client.post(LOGIN, json=body, **here).status_code == 429
        answer = client.post(LOGIN, json=body | {"device_token": known}, **here)
        assert answer.status_code == 200


def test_devices_from_before_a_change_of_password_have_no_allowance(
    client: Client, limited: SwitchOn, make_user: MakeUser
) -> None:
    """Whoever knew the old password could have made many of them."""
    user = make_user()
    old = {"email": user.email, "password": user.password}
    made = [client.post(LOGIN, json=old).json["device_token"] for _ in range(3)]
    kept = client.post(LOGIN, json=old).json
    new = "another-one-of-1822"
    changed = client.put(
        "/api/v1/users/me/password",
        token=kept["access_token"],
        json={"current_password": user.password, "new_password": new},
    )
    assert changed.status_code == 204
    renewed = client.post(
        "/api/v1/auth/refresh", json={"refresh_token": kept["refresh_token"]}
    ).json["device_token"]
    with later(0):
        guesses = [
            client.post(
                LOGIN,
                json=old | {"device_token": made[n % 3]},
                environ_base={"REMOTE_ADDR": elsewhere()},
            )
            for n in range(11)
        ]
        assert statuses(guesses) == [401] * 10 + [429]
        # The device that stayed signed in has a new one.
        right = {"email": user.email, "password": new, "device_token": renewed}
        assert client.post(LOGIN, json=right).status_code == 200


def test_signing_up_is_limited_by_network(client: Client, limited: SwitchOn) -> None:
    address = elsewhere()

    def register() -> Any:
        body = {"email": nobody(), "name": "Ada", "password": "password"}
        return client.post(REGISTER, json=body, environ_base={"REMOTE_ADDR": address})

    with later(0):
        answers = [register() for _ in range(101)]
        assert statuses(answers) == [422] * 100 + [429]
        assert_limited(answers[-1], limit=100, within=3600)
