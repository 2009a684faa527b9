"""What shapes of values are taken, and what comes out."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError

from app.platform.settings import addresses, mail, values

KEY = b64encode(bytes(32)).decode()
OTHER_KEY = b64encode(b"\x01" * 32).decode()


TAKEN: list[tuple[values.Shape, Any, Any]] = [
    (values.number(1, 65_535), "3000", 3000),
    (values.number(1, 65_535), 65_535, 65_535),
    (values.seconds(0.1, 30), "2.5", 2.5),
    (values.seconds(0.1, 30), 3, 3.0),
    (values.choice("EdDSA", "HS256"), "eddsa", "EdDSA"),
    (values.share, "0.25", 0.25),
    (values.share, 1, 1.0),
    (values.switch, "True", True),
    (values.switch, False, False),
    (values.LINE, "bursar", "bursar"),
    (values.folder, "./var", Path("var")),
    (values.levels, "app=debug, a.b=WARNING,", (("app", "debug"), ("a.b", "warning"))),
    (values.levels, {}, ()),
    (values.listed(values.LINE), "a, b,a,", ("a", "b")),
    (values.listed(values.LINE), [], ()),
    (values.master_keys, f"2:{OTHER_KEY},1:{KEY}", ((2, b"\x01" * 32), (1, bytes(32)))),
    (addresses.host, "Localhost", "localhost"),
    (addresses.host, "[::1]", "::1"),
    (addresses.host, "::", "::"),
    (addresses.host, "my_service.internal", "my_service.internal"),
    (addresses.trusted_host, ".Acme.org", ".acme.org"),
    (addresses.trusted_host, "[::1]", "[::1]"),
    (addresses.origin, "https://app.acme.org", "https://app.acme.org"),
    (addresses.origin, "http://[::1]:5173", "http://[::1]:5173"),
    (addresses.public_url, "https://bursar.acme.org/", "https://bursar.acme.org"),
    (addresses.host_and_port, "127.0.0.1:9100", "127.0.0.1:9100"),
    (addresses.host_and_port, "[::]:9100", "[::]:9100"),
    (addresses.otlp_endpoint, "http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    (
        addresses.otlp_endpoint,
        "https://u:p@h.acme.org/otlp/",
        "https://u:p@h.acme.org/otlp/v1/traces",
    ),
    (addresses.otlp_endpoint, "http://h:4318/v1/traces", "http://h:4318/v1/traces"),
    (addresses.sentry_dsn, "https://k@o1.ingest.io/42", "https://k@o1.ingest.io/42"),
    (addresses.sentry_dsn, "http://k@127.0.0.1:9000/a/42", "http://k@127.0.0.1:9000/a/42"),
    (addresses.redis_url, "rediss://u:p%40@h:6380/1", "rediss://u:p%40@h:6380/1"),
    (addresses.redis_url, "valkey://[::1]", "valkey://[::1]"),
    (addresses.redis_url, "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    (mail.mail_url, "smtp://mail.acme.org", "smtp://mail.acme.org"),
    (mail.mail_url, "smtps://u:p%40@mail.acme.org:465/", "smtps://u:p%40@mail.acme.org:465/"),
    (mail.mail_url, "smtp://h?starttls=opportunistic", "smtp://h?starttls=opportunistic"),
    (mail.mail_url, "smtp://u:p@[::1]:1025?starttls=off", "smtp://u:p@[::1]:1025?starttls=off"),
    (mail.mail_from, "no-reply@acme.org", "no-reply@acme.org"),
    (mail.mail_from, '"Acme, Inc." <bursar@localhost>', '"Acme, Inc." <bursar@localhost>'),
    (mail.mail_from, "B\xfcrsar <b@acme.org>", "B\xfcrsar <b@acme.org>"),
    (addresses.database_url, "postgres://u@h/d", "postgresql+psycopg2://u@h/d"),
    (addresses.database_url, "postgresql:///d", "postgresql+psycopg2:///d"),
    (
        addresses.database_url,
        "postgresql://u:p%40@h:6432/d?sslmode=require",
        "postgresql+psycopg2://u:p%40@h:6432/d?sslmode=require",
    ),
    (
        addresses.database_url,
        "postgresql+psycopg2://u@/d?host=/run/postgresql",
        "postgresql+psycopg2://u@/d?host=/run/postgresql",
    ),
]

# Each with texts, separated by spaces here, and with other values.
REFUSED: list[tuple[values.Shape, str, list[Any]]] = [
    (values.number(1, 10), "0 11 1.0 +1 1_0 \u0661 0x1 1e1 99999999999", [1.0, True, "1\n"]),
    (values.seconds(0.1, 30), "0 31 nan inf -1 1e1 1,5", [float("nan"), True, "1\n"]),
    (values.choice("json", "pretty"), "jso jsonl", ["json ", ["json"]]),
    (values.share, "-0.1 1.1 10% .5 1e-1 nan \u0661", [True, "1\n", 2, -1, None]),
    (values.switch, "0 1 yes off", ["true ", 1, ["true"]]),
    (values.LINE, "", ["x" * 256]),
    (values.folder, "", []),
    (values.levels, "debug app=loud =debug a=debug=info a-b=info", [[], {"app": 10}]),
    (values.listed(addresses.origin), "https://a.org,b", [{"a": 1}, [1]]),
    (
        values.master_keys,
        f"{KEY} 1:{KEY[:-4]} 1:{KEY},1:{OTHER_KEY} 0:{KEY} -1:{KEY} x:{KEY} 1:\xe9 1:{KEY},",
        [""],
    ),
    (
        addresses.host,
        "localhost:3000 1.2.3 1.2.3.256 [localhost] ::g fe80::1%eth0 -a a..b http://a",
        ["a b", "x" * 254],
    ),
    (addresses.trusted_host, "* a:80 ::1 [a] a/b ..a", ["a b"]),
    (
        addresses.origin,
        "* null app.acme.org https:// https://a.org/ https://A.org HTTPS://a.org ftp://a.org"
        " https://a.org:443 http://a.org:80 https://a.org:0 https://a.org:x https://a.org:99999"
        " https://a.org:080 https://u@a.org https://u:p@a.org https://a.org?x https://a.org#x"
        " https://*.a.org https://a\xe9.org https://[::1",
        ["https://a.org\n"],
    ),
    (addresses.public_url, "bursar https://a.org// https://a.org/x /", []),
    (
        addresses.host_and_port,
        "9100 :9100 127.0.0.1 127.0.0.1: 127.0.0.1:0 127.0.0.1:99999 127.0.0.1:x ::1:9100"
        " http://a:1 u@a:1 a:1/x",
        ["a b:1"],
    ),
    (
        addresses.sentry_dsn,
        "k@sentry.io/1 https://sentry.io/1 https://k@/1 https://k@sentry.io https://k@sentry.io/x"
        " ftp://k@sentry.io/1 https://k@[::1/1",
        [],
    ),
    (
        addresses.otlp_endpoint,
        "h:4318 grpc://h:4317 http:// http:///x http://h?key=1 http://h#x http://h:99999",
        ["http://h\n", 4318],
    ),
    (
        addresses.redis_url,
        "h:6379 http://h redis:// redis:///0 redis://h:99999 redis://u:p#q@h unix://run/redis.sock"
        " unix: memory://",
        ["redis://h\n"],
    ),
    (
        mail.mail_url,
        "h:25 http://h smtp:// smtp:///x smtp://h/x smtp://h#x smtp://h:99999 smtp://u@h"
        " smtp://u:p/q@h smtp://:p@h smtp://h\xe9 smtp://-h",
        ["smtp://h\n", "smtp://h h"],
    ),
    (mail.mail_url, "smtps://u:p%C3%A9@h smtp://\xe9:p@localhost smtp://u:p%0A@h", ["redis:"]),
    (
        mail.mail_url,
        "smtp://h?starttls smtp://h?starttls=yes smtp://h?tls=off smtps://h?starttls=required"
        " smtp://h?starttls=off&x",
        ["smtps"],
    ),
    (
        mail.mail_url,
        "smtp://u:p@h?starttls=off smtp://u:p@h?starttls=opportunistic",
        ["smtp"],
    ),
    (
        mail.mail_from,
        "bursar a@b@c <a@acme.org @acme.org a@ j\xfcrgen@acme.org a@b\xfc.org a..b@acme.org",
        ["a b@acme.org", "a@acme.org, b@acme.org", "X <a@acme.org>\nBcc: b@acme.org", ["a@b.c"]],
    ),
    (
        addresses.database_url,
        "sqlite:///x mysql://u@h/d postgresql+psycopg://u@h/d postgresql+asyncpg://u@h/d u@h/d"
        " postgresql://u@h postgresql://u@h/ postgresql://u@h:x/d postgresql://u@h:99999/d"
        " postgresql://u:p/q@h/d postgresql://u:p#q@h/d postgresql://u:p?q@h/d"
        " postgresql://u@h/d/e postgresql://u@-h/d",
        ["postgresql://u:p q@h/d"],
    ),
]


@pytest.mark.parametrize(("shape", "raw", "expected"), TAKEN)
def test_a_value_of_the_right_shape_is_taken(shape: values.Shape, raw: Any, expected: Any) -> None:
    assert shape(raw) == expected


@pytest.mark.parametrize(("shape", "texts", "others"), REFUSED)
def test_other_values_are_refused_in_words_that_do_not_depend_on_them(
    shape: values.Shape, texts: str, others: list[Any]
) -> None:
    sentences = set()
    for raw in (*texts.split(), *others, None, 1.5j):
        with pytest.raises(ValidationError) as caught:
            shape(raw)
        sentences.update(caught.value.messages)
    assert len(sentences) <= 2
    assert all(sentence.startswith("must ") for sentence in sentences)


@pytest.mark.parametrize(
    ("url", "port", "implicit_tls", "starttls"),
    [
        ("smtp://mail.acme.org", 587, False, "required"),
        ("smtp://u:p@mail.acme.org:25", 25, False, "required"),
        ("smtp://mail.acme.org?starttls=off", 587, False, "off"),
        ("smtps://mail.acme.org", 465, True, "off"),
        ("smtp://localhost", 587, False, "opportunistic"),
        ("smtp://mail.localhost", 587, False, "opportunistic"),
        ("smtp://u:p@127.0.0.1:1025", 1025, False, "opportunistic"),
        ("smtp://[::1]?starttls=required", 587, False, "required"),
    ],
)
def test_a_mail_server_elsewhere_has_to_show_a_certificate_unless_told_otherwise(
    url: str, port: int, implicit_tls: bool, starttls: str
) -> None:
    server = mail.server_of(url)
    assert (server.port, server.implicit_tls, server.starttls) == (port, implicit_tls, starttls)


def test_a_login_of_a_mail_server_is_decoded_and_does_not_show() -> None:
    server = mail.server_of("smtps://no-reply@acme.org:p%40s%2Fs@mail.acme.org")
    assert (server.user, server.password) == ("no-reply@acme.org", "p@s/s")
    assert "p@s/s" not in repr(server)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("no-reply@acme.org", "", "no-reply@acme.org"),
        ("<no-reply@acme.org>", "", "no-reply@acme.org"),
        ("B\xfcrsar <no.reply@acme.org>", "B\xfcrsar", "no.reply@acme.org"),
        ('"Acme, Inc." <bursar@localhost>', "Acme, Inc.", "bursar@localhost"),
    ],
)
def test_a_sender_has_an_address_and_maybe_a_name(text: str, name: str, address: str) -> None:
    assert mail.mailbox(text) == (name, address)


@pytest.mark.parametrize(
    "secret",
    [
        "changeme",
        "Change-Me",
        "replace_this",
        "PLACEHOLDER",
        "your-secret",
        "0" * 32,
        "ab" * 16,
        "0123456789abcdef",
        bytes(32),
        bytes(range(32)),
        bytes(range(64, 0, -2)),
        b"development" + b"\x99" * 5,
    ],
)
def test_a_secret_that_was_never_made_to_be_one_is_recognised(secret: str | bytes) -> None:
    assert values.is_placeholder(secret)


@pytest.mark.parametrize(
    "secret", ["", "postgres", "kR7!v0Zq-mX2p_Lw9sTdY4", bytes(i * i % 251 for i in range(32))]
)
def test_other_secrets_are_left_alone(secret: str | bytes) -> None:
    assert not values.is_placeholder(secret)
