"""Forged, foreign, expired and mistyped access tokens: every one is a 401."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.platform import clock
from tests.auth.forging import GONE, claiming, headed, payload, shared_secret, signed, unsigned
from tests.client import Client
from tests.people import TestUser

MakeUser = Callable[..., TestUser]
ME = "/api/v1/users/me"

FORGED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "not a token": lambda _: "token",
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: token + ".AAAA",
    "not ASCII": lambda token: "é" + token,
    "too long": lambda token: token + "A" * 5000,
    "signature cut": lambda token: token[:-4],
    "signature empty": lambda token: token.rpartition(".")[0] + ".",
    "signature of another": lambda token: token.rpartition(".")[0] + "." + "A" * 86,
    "payload of another": lambda token: claiming(token).rpartition(".")[0]
    + "."
    + claiming(token, gen=2).rpartition(".")[2],
    "unsigned": unsigned,
    "shared secret": shared_secret,
    "foreign key": lambda token: headed(token, key=Ed25519PrivateKey.generate()),
    "kid unknown": lambda token: headed(token, kid=str(uuid4())),
    "kid missing": lambda token: headed(token, kid=GONE),
    "kid mistyped": lambda token: headed(token, kid=["a"]),
    "alg unknown": lambda token: headed(token, alg="XX"),
    "alg missing": lambda token: headed(token, alg=GONE),
    "critical extension": lambda token: headed(token, crit=["exp"]),
    "header no JSON": lambda token: signed(b"{", b"{}"),
    "header a list": lambda token: signed(b"[]", b"{}"),
    "payload no JSON": lambda token: payload(token, b"{"),
    "payload a list": lambda token: payload(token, b"[1]"),
    "payload not UTF-8": lambda token: payload(token, b'{"sub": "\xff"}'),
    "payload deep": lambda token: payload(token, b"[" * 2500),
    "payload a long number": lambda token: payload(token, b'{"exp": ' + b"9" * 2500 + b"}"),
    **{f"{name} missing": (lambda token, name=name: claiming(token, **{name: GONE}))
       for name in ("sub", "sid", "jti", "iat", "exp", "iss", "aud", "roles", "gen", "type")},
    **{f"{name} null": (lambda token, name=name: claiming(token, **{name: None}))
       for name in ("sub", "sid", "jti", "iat", "exp", "iss", "aud", "roles", "gen", "type")},
    "sub a number": lambda token: claiming(token, sub=1),
    "sub no id": lambda token: claiming(token, sub="ada"),
    "sub of another": lambda token: claiming(token, sub=str(uuid4())),
    "sid no id": lambda token: claiming(token, sid="1"),
    "sid of nobody": lambda token: claiming(token, sid=str(uuid4())),
    "jti a number": lambda token: claiming(token, jti=1),
    "exp a text": lambda token: claiming(token, exp="9999999999"),
    "exp a fraction": lambda token: claiming(token, exp=9999999999.5),
    "exp true": lambda token: claiming(token, exp=True),
    "exp past": lambda token: claiming(token, exp=int(clock.time()) - 1),
    "exp endless": lambda token: claiming(token, exp=float("inf")),
    "iat to come": lambda token: claiming(token, iat=int(clock.time()) + 3600),
    "iat a text": lambda token: claiming(token, iat="1"),
    "nbf to come": lambda token: claiming(token, nbf=int(clock.time()) + 3600),
    "iss of another": lambda token: claiming(token, iss="https://evil.example"),
    "aud of another": lambda token: claiming(token, aud="other"),
    "aud a list": lambda token: claiming(token, aud=["bursar", "other"]),
    "gen a text": lambda token: claiming(token, gen="1"),
    "gen true": lambda token: claiming(token, gen=True),
    "roles a text": lambda token: claiming(token, roles="admin"),
    "type of another": lambda token: claiming(token, type="refresh"),
}  # fmt: skip


def test_a_token_under_a_good_signature_is_good(client: Client, make_user: MakeUser) -> None:
    token = make_user().token
    for same in (token, claiming(token), headed(token)):
        assert client.get(ME, token=same).status_code == 200


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_is_refused(client: Client, make_user: MakeUser, kind: str) -> None:
    answer = client.get(ME, token=FORGED[kind](make_user().token))
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token {token}", "{token}", "Bearer{token}"]
)
def test_a_header_of_another_form_is_refused(
    client: Client, make_user: MakeUser, header: str
) -> None:
    sent = {"Authorization": header.format(token=make_user().token)}
    assert client.get(ME, headers=sent).status_code == 401


def test_a_refresh_token_is_no_access_token(client: Client, make_user: MakeUser) -> None:
    user = make_user()
    answer = client.post(
        "/api/v1/auth/login", json={"email": user.email, "password": user.password}
    )
    assert client.get(ME, token=answer.json["refresh_token"]).status_code == 401
