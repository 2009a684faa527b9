"""Forged, edited and mistyped API keys: every one is a 401, everywhere, and all look the same."""

import base64
import hashlib
import string
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from app.auth import key_texts
from app.auth.values import SCOPES
from tests import people
from tests.auth.forging import assert_refused_everywhere, other_last_letter
from tests.client import Client
from tests.people import TestUser

MakeUser = Callable[..., TestUser]
ME = "/api/v1/users/me"
LETTERS = string.ascii_letters + string.digits + "-_"


def parts(key: str) -> tuple[str, str]:
    """Return id and secret of a key."""
    _, key_id, secret = key.split("_", 2)
    return key_id, secret


def with_id(key: str, key_id: str) -> str:
    return f"bk_{key_id}_{parts(key)[1]}"


def with_secret(key: str, secret: str) -> str:
    return f"bk_{parts(key)[0]}_{secret}"


def edited(key: str, place: int) -> str:
    """Return the key with another letter in one place of its secret."""
    id_part, secret = parts(key)
    place %= len(secret)
    letter = LETTERS[(LETTERS.index(secret[place]) + 4) % len(LETTERS)]
    return f"bk_{id_part}_{secret[:place]}{letter}{secret[place + 1 :]}"


FORGED: dict[str, Callable[[str], str]] = {
    "the prefix alone": lambda _: "bk_",
    "id alone": lambda key: "bk_" + parts(key)[0],
    "id without a secret": lambda key: with_secret(key, ""),
    "a secret without an id": lambda key: with_id(key, ""),
    "no prefix": lambda key: key[3:],
    **{f"prefix {prefix!r}": (lambda key, prefix=prefix: prefix + key[3:])
       for prefix in ("BK_", "bk-", "bk", "bk__", "sk_", "bk_live_", "_bk_")},
    **{f"another letter in place {place}": (lambda key, place=place: edited(key, place))
       for place in (0, 1, 20, 41, 42)},
    # base64 leaves the last two bits open: the same bytes, and another text.
    "another spelling of the secret": other_last_letter,
    "the secret cut": lambda key: key[:-1],
    "the secret and more": lambda key: key + "A",
    "padded": lambda key: key + "=",
    "the secret twice": lambda key: key + parts(key)[1],
    "the secret of nobody": lambda key: with_secret(key, "A" * 43),
    "the secret in hexadecimal digits": lambda key: with_secret(key, parts(key)[1].encode().hex()),
    "the digest for the secret": lambda key: with_secret(
        key, base64.urlsafe_b64encode(hashlib.sha256(parts(key)[1].encode()).digest())
        .rstrip(b"=").decode()),
    "the secret in capitals": lambda key: with_secret(key, parts(key)[1].swapcase()),
    "the id of nobody": lambda key: with_id(key, uuid4().hex),
    "the id in capitals": lambda key: with_id(key, "ABCDEF" + parts(key)[0][6:]),
    "the id with dashes": lambda key: with_id(key, str(UUID(parts(key)[0]))),
    "the id in braces": lambda key: with_id(key, "{" + parts(key)[0] + "}"),
    "the id in Arabic digits": lambda key: with_id(key, "\u0660" * 32),
    "the id too long": lambda key: with_id(key, parts(key)[0] + "0"),
    "the id 0": lambda key: with_id(key, "0" * 32),
    "no id": lambda key: with_id(key, "x" * 32),
    "SQL for an id": lambda key: with_id(key, "' OR '1'='1"),
    **{f"{text!r} after it": (lambda key, text=text: key + text)
       for text in ("!", ".", "\0", "%00", ",", ";a=b", "\u200b", "é")},
    "two keys": lambda key: f"{key},{key}",
    "quoted": lambda key: f'"{key}"',
    "very long": lambda key: key + "A" * 5000,
    "one that was never made": lambda _: key_texts.make_key(uuid4())[0],
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_key_is_refused_everywhere(
    client: Client, admin: TestUser, protected: list[tuple[str, str]], kind: str
) -> None:
    key = people.make_api_key(admin, *SCOPES)
    forged = FORGED[kind](key)
    assert forged != key
    assert_refused_everywhere(client, protected, forged)
    assert client.get(ME, token=key).status_code == 200


def test_the_secret_of_one_key_does_not_open_another(client: Client, make_user: MakeUser) -> None:
    own, other = (people.make_api_key(make_user(), "self:read") for _ in range(2))
    for forged in (with_id(own, parts(other)[0]), with_secret(own, parts(other)[1])):
        assert client.get(ME, token=forged).status_code == 401


def test_a_key_is_taken_as_a_bearer_token_only(client: Client, make_user: MakeUser) -> None:
    key = people.make_api_key(make_user(), "self:read")
    basic = base64.b64encode(f"{key}:".encode()).decode()
    for headers in (
        {"Authorization": key},
        {"Authorization": f"Token {key}"},
        {"Authorization": f"Basic {basic}"},
        {"X-API-Key": key},
        {"Cookie": f"bursar_refresh={key}"},
    ):
        assert client.get(ME, headers=headers).status_code == 401
    assert client.get(ME, headers={"Authorization": f"bearer {key}"}).status_code == 200


def test_every_refused_key_looks_the_same(client: Client, make_user: MakeUser) -> None:
    key = people.make_api_key(make_user(), "self:read")
    answers = [
        client.get(ME, token=token, headers={"X-Request-Id": "same"})
        for token in ("bk_", edited(key, 5), with_id(key, uuid4().hex), "nothing")
    ]
    assert len({answer.data for answer in answers}) == 1
    assert len({tuple(answer.headers) for answer in answers}) == 1
