"""Forged, foreign, expired and mistyped access tokens: every one is a 401."""

import json
from collections.abc import Callable
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.platform import clock
from tests.auth.forging import (
    GONE,
    assert_refused_everywhere,
    bringing_its_key,
    by_algorithm,
    claiming,
    encoded,
    headed,
    other_last_letter,
    parts,
    payload,
    resigned,
    saying_twice,
    shared_secret,
    signed,
    unsigned,
)
from tests.client import Client
from tests.people import TestUser
from tests.tracing import unfollowed

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
    "another spelling of the signature": other_last_letter,
    **{f"{text!r} after it": (lambda token, text=text: token + text)
       for text in ("=", "==", "!", ".", "\0", "%00", ",", ";a=b", "\u200b")},
    **{f"{text!r} before the signature": (lambda token, text=text: text.join(
        (token.rpartition(".")[0] + ".", token.rpartition(".")[2])))
       for text in ("=", " ", "!", "\t", "*")},
    "blank in the payload": lambda token: token.replace(".", ". ", 1),
    "blank in the header": lambda token: token[:9] + " " + token[9:],
    "two tokens": lambda token: f"{token},{token}",
    "quoted": lambda token: f'"{token}"',
    "plain letters of base64": lambda token: token[:-43] + "+/" + token[-41:],
    **{f"unsigned, {alg!r}": (lambda token, alg=alg: unsigned(token, alg))
       for alg in ("none", "None", "NONE", "nOnE", "", None, "null", 0, ["EdDSA"], "EdDSA")},
    "unsigned, signature of another kept": lambda token: unsigned(token) + token[-86:],
    **{f"shared secret, {how}": (lambda token, how=how: shared_secret(token, how))
       for how in ("PEM", "DER", "raw", "JWK", "x", "kid", "empty")},
    "foreign key": lambda token: headed(token, key=Ed25519PrivateKey.generate()),
    **{f"foreign {alg}": (lambda token, alg=alg: resigned(token, alg, by_algorithm(alg)))
       for alg in ("HS256", "HS512", "RS256", "PS256", "ES256", "ES512", "EdDSA")},
    "brings its key": bringing_its_key,
    "brings its key, no kid": lambda token: bringing_its_key(token, kid=GONE),
    "brings its key, the key's own kid": lambda token: bringing_its_key(token, kid="mine"),
    **{f"{name} of another": (lambda token, name=name: headed(
        token, key=Ed25519PrivateKey.generate(), **{name: "https://evil.example/keys"}))
       for name in ("jku", "x5u")},
    "x5c of another": lambda token: headed(
        token, key=Ed25519PrivateKey.generate(), x5c=["MIIB"]),
    "kid unknown": lambda token: headed(token, kid=str(uuid4())),
    "kid missing": lambda token: headed(token, kid=GONE),
    **{f"kid {kid!r:.30}": (lambda token, kid=kid: headed(token, kid=kid))
       for kid in (
           ["a"], {}, None, 0, 1, True, "", " ", "\0", "*", "../../../../dev/null", "/dev/null",
           "file:///dev/null", "https://evil.example/key", "' OR '1'='1", "1; DROP TABLE users",
           "x' UNION SELECT 'secret", "$(id)", "{0.__class__}", "%s", "a" * 2000, "00" * 16,
           "00000000-0000-0000-0000-000000000000",
       )},
    **{f"kid {how}": (lambda token, spelled=spelled: headed(
        token, kid=spelled(parts(token)[0]["kid"])))
       for how, spelled in {
           "in capitals": str.upper, "in braces": "{{{}}}".format, "as a URN": "urn:uuid:{}".format,
           "without dashes": lambda kid: kid.replace("-", ""), "with a blank": " {}".format,
           "as a list": lambda kid: [kid], "with NUL": "{}\0".format,
       }.items()},
    **{f"alg {alg!r}": (lambda token, alg=alg: headed(token, alg=alg))
       for alg in ("XX", "", "none", "eddsa", "EdDSA ", "Ed25519", "HS256", 1, None, ["EdDSA"])},
    "alg missing": lambda token: headed(token, alg=GONE),
    "critical extension": lambda token: headed(token, crit=["exp"]),
    "payload not encoded": lambda token: headed(token, b64=False, crit=["b64"]),
    "typ a number": lambda token: headed(token, typ=1),
    **{f"typ {typ!r}": (lambda token, typ=typ: headed(token, typ=typ))
       for typ in ("JWE", "at+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt")},
    "typ missing": lambda token: headed(token, typ=GONE),
    "a token in a token": lambda token: signed(
        json.dumps(parts(token)[0] | {"cty": "JWT"}).encode(), token.encode()),
    "an encrypted token's form": lambda token: token + "." + encoded(b"iv") + "." + encoded(b"tag"),
    "JSON form": lambda token: json.dumps(
        dict(zip(("protected", "payload", "signature"), token.split("."), strict=True))),
    "header no JSON": lambda token: signed(b"{", b"{}"),
    "header a list": lambda token: signed(b"[]", b"{}"),
    "header empty": lambda token: "." + token.partition(".")[2],
    "header deep": lambda token: signed(b"[" * 1500, b"{}"),
    "payload empty": lambda token: payload(token, b""),
    "payload null": lambda token: payload(token, b"null"),
    "payload a text": lambda token: payload(token, b'"admin"'),
    "payload with a second object": lambda token: payload(
        token, json.dumps(parts(token)[1]).encode() + b"{}"),
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
    "sub a list": lambda token: claiming(token, sub=[parts(token)[1]["sub"]]),
    "sub empty": lambda token: claiming(token, sub=""),
    "sub with NUL": lambda token: claiming(token, sub=parts(token)[1]["sub"] + "\0"),
    "sub of another, said twice": lambda token: saying_twice(token, "sub", str(uuid4())),
    "sub no id": lambda token: claiming(token, sub="ada"),
    "sub of another": lambda token: claiming(token, sub=str(uuid4())),
    "sid no id": lambda token: claiming(token, sid="1"),
    "sid of nobody": lambda token: claiming(token, sid=str(uuid4())),
    "jti a number": lambda token: claiming(token, jti=1),
    "sid a number": lambda token: claiming(token, sid=1),
    "sid the user's id": lambda token: claiming(token, sid=parts(token)[1]["sub"]),
    "exp in milliseconds": lambda token: claiming(token, exp=int(clock.time() * 1000)),
    "exp in a hundred years": lambda token: claiming(token, exp=int(clock.time()) + 3_155_760_000),
    **{f"exp {exp}": (lambda token, exp=exp: claiming(token, exp=exp))
       for exp in (0, -1, 2**63, 10**99, 1e400, [9999999999], {})},
    "exp past, said twice": lambda token: saying_twice(token, "exp", 1),
    "exp a text": lambda token: claiming(token, exp="9999999999"),
    "exp a fraction": lambda token: claiming(token, exp=9999999999.5),
    "exp true": lambda token: claiming(token, exp=True),
    "exp past": lambda token: claiming(token, exp=int(clock.time()) - 1),
    "exp endless": lambda token: claiming(token, exp=float("inf")),
    "iat to come": lambda token: claiming(token, iat=int(clock.time()) + 3600),
    "iat a text": lambda token: claiming(token, iat="1"),
    "iat true": lambda token: claiming(token, iat=True),
    "iat in milliseconds": lambda token: claiming(token, iat=int(clock.time() * 1000)),
    "nbf a text": lambda token: claiming(token, nbf="later"),
    "nbf to come": lambda token: claiming(token, nbf=int(clock.time()) + 3600),
    "iss of another": lambda token: claiming(token, iss="https://evil.example"),
    "iss with a slash more": lambda token: claiming(token, iss=parts(token)[1]["iss"] + "/"),
    "iss a list": lambda token: claiming(token, iss=[parts(token)[1]["iss"]]),
    "aud in capitals": lambda token: claiming(token, aud="BURSAR"),
    "aud empty": lambda token: claiming(token, aud=""),
    "aud of another": lambda token: claiming(token, aud="other"),
    "aud a list": lambda token: claiming(token, aud=["bursar", "other"]),
    "gen a text": lambda token: claiming(token, gen="1"),
    "gen a fraction": lambda token: claiming(token, gen=1.0),
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
    forged = FORGED[kind](make_user(roles=("admin",)).token)
    assert client.get(ME, token=forged).status_code == 401


@unfollowed
@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_token_is_refused_everywhere(
    client: Client, make_user: MakeUser, protected: list[tuple[str, str]], kind: str
) -> None:
    assert_refused_everywhere(client, protected, FORGED[kind](make_user(roles=("admin",)).token))


def test_a_token_for_the_login_session_of_another_is_refused(
    client: Client, make_user: MakeUser
) -> None:
    own, other = make_user(), make_user()
    for forged in (
        claiming(own.token, sid=str(other.session_id)),
        claiming(own.token, sub=str(other.id)),
    ):
        assert client.get(ME, token=forged).status_code == 401


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
