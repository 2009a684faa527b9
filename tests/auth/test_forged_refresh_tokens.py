"""Refresh tokens that the service didn't issue, and what it takes to make one."""

import base64
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.auth import tokens as auth_tokens
from app.keys import master
from tests.auth.refreshing import REFRESH, Sql, Tokens, assert_refused, refresh, renewed, stored
from tests.client import Client


def forged(token: str, **changes: Any) -> str:
    parts = auth_tokens.read_refresh_token(token)
    packed = auth_tokens._REFRESH.pack(
        changes.get("session_id", parts.session_id).bytes,
        changes.get("generation", parts.generation),
        changes.get("key_version", parts.key_version),
        changes.get("mac", parts.mac),
    )
    return base64.urlsafe_b64encode(packed).decode()


FORGED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: " ",
    "not base64": lambda token: "!" * len(token),
    "not ASCII": lambda token: "é" * len(token),
    "the other alphabet": lambda token: "+/" + token[2:],
    "cut": lambda token: token[:-4],
    "longer": lambda token: token + "AAAA",
    "another HMAC": lambda token: forged(token, mac=bytes(32)),
    "another generation": lambda token: forged(token, generation=2),
    "generation zero": lambda token: forged(token, generation=0),
    "the last generation": lambda token: forged(token, generation=2**64 - 1),
    "another key version": lambda token: forged(token, key_version=77),
    "nobody's login session": lambda token: forged(token, session_id=uuid4()),
    "no login session": lambda token: forged(token, session_id=UUID(int=0)),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_is_refused_and_changes_nothing(
    client: Client, signed_in: Tokens, sql: Sql, kind: str
) -> None:
    before = stored(sql, signed_in)
    token = FORGED[kind](signed_in["refresh_token"])
    assert_refused(client.post(REFRESH, json={"refresh_token": token}), "INVALID_REFRESH_TOKEN")
    assert stored(sql, signed_in) == before
    assert renewed(client, signed_in)


def test_a_genuine_token_of_a_generation_to_come_is_refused(
    client: Client, signed_in: Tokens, sql: Sql
) -> None:
    salt = bytes.fromhex(stored(sql, signed_in)["salt"][2:])
    ahead = auth_tokens.make_refresh_token(
        session_id=UUID(signed_in["session_id"]), generation=2, salt=salt
    )
    assert_refused(client.post(REFRESH, json={"refresh_token": ahead}), "INVALID_REFRESH_TOKEN")
    assert renewed(client, signed_in)["refresh_token"] == ahead


def test_an_access_token_is_no_refresh_token(client: Client, signed_in: Tokens) -> None:
    swapped = {"refresh_token": signed_in["access_token"]}
    assert_refused(refresh(client, swapped), "INVALID_REFRESH_TOKEN")


def test_tokens_made_under_an_older_master_key_are_good(
    client: Client, signed_in: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    (current,) = master._keys.items()
    monkeypatch.setattr(master, "_keys", {})
    monkeypatch.setattr(master, "_current", 0)
    master.configure(((current[0] + 1, b"new" * 11), current))
    new = renewed(client, signed_in)
    assert auth_tokens.read_refresh_token(new["refresh_token"]).key_version == current[0] + 1
    assert renewed(client, new)


def test_without_the_salt_of_the_row_no_token_can_be_made(
    client: Client, signed_in: Tokens
) -> None:
    made = auth_tokens.make_refresh_token(
        session_id=UUID(signed_in["session_id"]), generation=1, salt=bytes(16)
    )
    assert_refused(client.post(REFRESH, json={"refresh_token": made}), "INVALID_REFRESH_TOKEN")
