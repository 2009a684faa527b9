"""`flask keys`: what an operator is told, and what it changes."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from app.keys.service import KeyRing
from app.platform.settings import Settings
from tests.commands import command, flask
from tests.keys.conftest import Stored

FOREIGN = "a service that keeps the public keys may refuse its tokens for ten minutes.\n"


def said(settings: Settings, *arguments: str) -> str:
    """Run `flask keys …`, which must end well, and return what it says."""
    ended = command(settings, "keys", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_keys_are_listed_with_what_comes_next(fresh: Settings, stored: Stored) -> None:
    assert said(fresh, "list") == (
        "There are none yet. The service makes the first one when it needs it.\n"
    )
    KeyRing(fresh).current()
    (key,) = stored()
    line, announcement = said(fresh, "list").splitlines()
    began = f"{key.activated_at:%Y-%m-%dT%H:%M:%SZ}"
    assert line == f"{key.id}  active     since {began}  master key 1"
    assert announcement.startswith("The next key is published at 20")


def test_a_rotation_says_when_the_next_key_signs(fresh: Settings, stored: Stored) -> None:
    KeyRing(fresh).current()
    first = said(fresh, "rotate")
    active, waiting = stored()
    assert (active.state, waiting.state) == ("active", "published")
    words, _, signs_at = first.rpartition(" ")
    assert words == f"Key {waiting.id} is published and signs from"
    again = said(fresh, "rotate")
    assert again == (
        f"Key {waiting.id} waits already and signs from {signs_at.rstrip()[:-1]};"
        " nothing was changed.\n"
    )
    assert f"to be activated at {signs_at.rstrip()[:-1]}\n" in said(fresh, "list")

    assert said(fresh, "rotate", "--now") == f"Key {waiting.id} signs from now on; {FOREIGN}"
    assert [row.state for row in stored()] == ["retiring", "active"]
    assert "  to be deleted at " in said(fresh, "list").splitlines()[0]


@pytest.mark.usefixtures("traced")
def test_a_revocation_says_which_key_signs_now(fresh: Settings, stored: Stored) -> None:
    KeyRing(fresh).current()
    (key,) = stored()
    ended = flask(fresh, "keys", "revoke", str(key.id))
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout
    revoked, active = stored()
    assert (revoked.id, revoked.state, active.state) == (key.id, "revoked", "active")
    assert told == f"Key {key.id} is revoked, and key {active.id} signs; {FOREIGN}"
    assert UUID(told.split()[1]) == key.id


def test_a_key_that_does_not_exist_ends_the_command(fresh: Settings) -> None:
    ended = command(fresh, "keys", "revoke", str(uuid4()))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith(
        "Error: There is no signing key with this id; `flask keys list` shows them all.\n"
    )
    assert command(fresh, "keys", "revoke", "one").returncode == 2


@pytest.mark.parametrize("asked", ["list", "rotate"])
def test_with_a_shared_secret_there_are_no_keys(fresh: Settings, asked: str) -> None:
    ended = command(replace(fresh, auth_jwt_algorithm="HS256"), "keys", asked)
    assert (ended.returncode, ended.stdout) == (1, "")
    refusal = "Error: APP_AUTH_JWT_ALGORITHM is HS256, which has no signing keys.\n"
    assert ended.stderr.endswith(refusal)
