"""Looks for secrets where none may ever be: log lines, error bodies, metrics, what goes to Sentry.

Each test process notes every password, token and cookie that its clients send or get, and keeps
what the service wrote meanwhile. At the end of its run the one is searched for the other, as it
stands and in the usual spellings.
"""

import base64
import json
import re
import sys
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from werkzeug.test import TestResponse

from app.platform import logging, metrics

FIELDS = frozenset(
    {"password", "current_password", "new_password", "access_token", "refresh_token"}
    | {"device_token", "csrf_token", "token", "key", "secret"}
)
# Shorter ones are words that stand anywhere.
SHORTEST = 10
# The end of a token is its signature. A leak that cuts this off gives nobody a token.
TAIL = 32
# To read the text once for each secret would take minutes. Cut into blocks of 8, it is looked up:
# of 8 neighbouring places in a secret one begins a block, if the secret stands in the text at all.
BLOCK = 8
LEAST_IN_BLOCKS = 2 * BLOCK - 1
# What a secret looks like that no client of ours has noted: an access token, a password's hash, an
# API key, what signs a webhook's messages.
SHAPES = re.compile(
    rb"eyJ[\w-]{16,}\.[\w-]{16,}|\$argon2\w*\$v=|(?:Bearer |bursar_\w+=)[\w%+/=.-]{16,}"
    rb"|bk_[0-9a-f]{32}_[\w-]{16,}|whsec_[\w%+/=-]{16,}"
)

_secrets: dict[str, None] = {}
_heard: dict[str, bytearray] = {}


def listen() -> None:
    """Keep every log line of this process from now on, whoever else reads standard error."""
    write = logging._write

    def heard(line: bytes) -> None:
        hear("a log line", line)
        write(line)

    logging._write = heard


def hear(where: str, text: bytes) -> None:
    """Keep something that no secret may stand in."""
    _heard.setdefault(where, bytearray()).extend(text + b"\n")


def watch(*secrets: str) -> None:
    """Note secrets by themselves."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            _secrets[secret] = None


def noted() -> list[str]:
    """Return every secret that was noted so far."""
    return list(_secrets)


def note(answer: TestResponse, sent: object) -> None:
    """Note the secrets of a request with its JSON body and of its answer; keep what it refuses."""
    asked = answer.request
    watch(asked.headers.get("Authorization", "").rpartition(" ")[2])
    watch(asked.headers.get("X-CSRF-Token", ""))
    watch(*asked.cookies.values())
    for cookie in answer.headers.getlist("Set-Cookie"):
        watch(cookie.partition(";")[0].partition("=")[2])
    watch(*secrets_in(sent))
    if answer.is_json and answer.data and not answer.content_encoding:
        watch(*secrets_in(answer.json))
    if answer.status_code >= 400:
        hear("an error body", answer.data)
    elif answer.request.path == "/metrics":
        hear("the metrics", answer.data)


def leaks() -> list[str]:
    """Return a sentence for each secret that this process's service has let out."""
    hear("the metrics", metrics.exposition())
    return sorted(
        {
            f"{what} in {where}: {bytes(line).decode(errors='replace')[:1000]}"
            for where, text in _heard.items()
            for what, line in found(bytes(text), noted())
        }
    )


def found(text: bytes, secrets: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield each secret that stands in a text, or what looks like one, with its line."""
    for match in SHAPES.finditer(text):
        yield match[0].decode(), _line(text, match.start())
    there = set(memoryview(text[: len(text) // BLOCK * BLOCK]).cast("Q"))
    for secret in secrets:
        for spelling in spellings(secret[-TAIL:]):
            if _may_stand(spelling, there) and spelling in text:
                yield secret, _line(text, text.index(spelling))


def spellings(secret: str) -> set[bytes]:
    """Return a secret as it stands and as URLs, JSON, hexadecimal digits and base64 spell it."""
    raw = secret.encode(errors="surrogatepass")
    plain = {raw, quote(raw, safe="").encode(), quote_plus(raw).encode()}
    plain |= {json.dumps(secret)[1:-1].encode(), raw.hex().encode()}
    # In base64 three characters begin at any of three places; of the first and the last only what
    # doesn't depend on its neighbours is certain.
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        certain = encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        plain |= {certain, certain.translate(bytes.maketrans(b"+/", b"-_"))}
    return plain


def _may_stand(spelling: bytes, blocks: set[int]) -> bool:
    """Tell whether a text of these blocks can hold the spelling, quicker than by reading it."""
    if len(spelling) < LEAST_IN_BLOCKS:
        return True
    starts = (spelling[place : place + BLOCK] for place in range(BLOCK))
    return any(int.from_bytes(start, sys.byteorder) in blocks for start in starts)


def _line(text: bytes, at: int) -> bytes:
    end = text.find(b"\n", at)
    return text[text.rfind(b"\n", 0, at) + 1 : end if end >= 0 else None]


def secrets_in(body: object) -> Iterator[str]:
    """Yield the secret members of a JSON value, however deep."""
    if isinstance(body, Mapping):
        for name, value in body.items():
            if name in FIELDS and isinstance(value, str):
                yield value
            yield from secrets_in(value)
    elif isinstance(body, list):
        for value in body:
            yield from secrets_in(value)
