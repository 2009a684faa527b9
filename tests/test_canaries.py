"""The search for secrets finds them, however they are spelled, and nothing else."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from flask import Flask

from app.platform import logging
from tests import canaries
from tests.client import Client
from tests.people import PASSWORD, TestUser

TOKEN = base64.urlsafe_b64encode(bytes(range(196, 256))).decode()
PHRASE = "correct horse+battery/stäple"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in JSON": json.dumps,
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a form": quote_plus,
    "in hexadecimal digits": lambda secret: secret.encode().hex(),
    **{
        f"in base64, {before} before it": lambda secret, before=before: base64.b64encode(
            b"x" * before + secret.encode() + b"yz"
        ).decode()
        for before in range(4)
    },
    "in base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "without what comes before the signature": lambda secret: secret[-canaries.TAIL :],
}


@pytest.mark.parametrize("secret", [TOKEN, PHRASE, "a-password"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_found_in_every_spelling(secret: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling](secret)
    for before in range(canaries.BLOCK):
        text = f"{'-' * before}a line\n{{'x': {spelled}}}\nanother".encode()
        ((found, line),) = set(canaries.found(text, [secret, "another-secret-of-somebody"]))
        assert found == secret
        assert line.decode() == f"{{'x': {spelled}}}"


@pytest.mark.parametrize(
    "shape",
    [
        "eyJhbGciOiJFZERTQSIsImtpZCI6I.eyJzdWIiOiIwMTk0YzNh.c2lnbmF0dXJl",
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
        "Authorization: Bearer 0123456789abcdef0123456789abcdef",
        "asked with bk_01936f3a1b2c7a108c4d2e5f7a9b0c3d_c2VjcmV0LXNlY3JldC1zZWNyZXQ",
        "Cookie: a=b; __Secure-bursar_refresh=0123456789abcdef0123456789abcdef",
    ],
)
def test_what_looks_like_a_secret_is_found_though_nobody_noted_it(shape: str) -> None:
    ((_, line),) = canaries.found(f"a\n{shape}\nb".encode(), [])
    assert line.decode() == shape


@pytest.mark.parametrize("text", ["", "x", "Bearer, bursar_refresh, eyJ, $argon2 " * 9])
def test_nothing_is_found_where_nothing_is(text: str) -> None:
    assert list(canaries.found(text.encode(), [TOKEN, PHRASE, "a-password"])) == []


def test_what_clients_send_and_get_is_noted_and_log_lines_and_refusals_are_kept(
    app: Flask, client: Client, make_user: Callable[..., TestUser]
) -> None:
    user = make_user()
    body = {"email": user.email, "password": user.password, "transport": "cookie"}
    signed_in = client.post("/api/v1/auth/login", json=body)
    (cookie,) = (
        value.partition(";")[0].partition("=")[2]
        for value in signed_in.headers.getlist("Set-Cookie")
        if "refresh" in value
    )
    given = {"refresh_token": "sent-in-a-body-only", "deep": [{"new_password": "deep-in-a-body"}]}
    headers = {"X-CSRF-Token": "sent-in-a-header-only"}
    refused = client.post("/api/v1/auth/refresh", json=given, token="sent-to-sign", headers=headers)
    logging.get_logger("tests.canaries").debug("kept-at-every-level")
    for secret in (
        *(PASSWORD, user.token, user.refresh_token, cookie),
        *(signed_in.json["access_token"], signed_in.json["csrf_token"]),
        *("sent-in-a-body-only", "deep-in-a-body", "sent-in-a-header-only", "sent-to-sign"),
    ):
        assert secret in canaries._secrets
    assert refused.data in canaries._heard["an error body"]
    assert b"kept-at-every-level" in canaries._heard["a log line"]
