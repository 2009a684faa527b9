"""What arrives at a real mail server, and what becomes of a mail without one."""

import time
from dataclasses import replace
from email import policy
from email.parser import BytesParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.mail import transport
from app.mail.errors import MailRefused, MailTemporary
from app.platform.settings import Settings
from tests.mail.sending import LINK, failure, message
from tests.mail.smtp_server import SmtpServer, smtp_server

HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("MIME-Version", "Content-Type"),
]
# Whatever one of these makes of the text of a header, it may not become another header.
NAMES = [
    "Ada",
    "Ada\r\nBcc: eve@evil.example",
    "Ada\nBcc: eve@evil.example\n\nHello",
    "=?utf-8?q?Ada=0D=0ABcc=3A_eve=40evil.example?=",
    "=?utf-8?b?QWRhDQpCY2M6IGV2ZUBldmlsLmV4YW1wbGU=?=",
    '"Ada" <eve@evil.example>, Bob',
    "Ada (Bob\\",
    "Ü, eve@evil.example;" * 5,
    "👩\u200d🚀" * 33,
    "J. R. R. Ö'Brien-Smith",
    "\u202e\x00\ud800",
    "",
]


def test_a_mail_arrives_as_it_was_written(reaching: Settings, server: SmtpServer) -> None:
    sent = message()
    transport.send(reaching, sent)
    received = server.mails()[-1]
    assert received.sender == "no-reply@acme.org"
    assert received.recipients == ["ada@example.com"]
    assert received.greeted_as == "bursar.acme.org"
    assert received.options == []
    mail = received.mail
    assert mail.keys() == HEADERS
    assert mail["From"] == "Acme Bürsar <no-reply@acme.org>"
    assert mail["To"] == "Ada <ada@example.com>"
    assert mail["Subject"] == "Please confirm your address"
    assert mail["Message-ID"] == f"<{sent.mail_id}@bursar.acme.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(mail["Date"].datetime.timestamp() - time.time()) < 10
    assert mail.get_content_type() == "multipart/alternative"
    text, html = mail.iter_parts()
    assert [text.get_content_type(), html.get_content_type()] == ["text/plain", "text/html"]
    assert text.get_content().replace("\r\n", "\n") == sent.text
    assert html.get_content().replace("\r\n", "\n") == sent.html
    # A person finds the link in the raw mail, too.
    assert f"\r\n{LINK}\r\n".encode() in received.raw


def test_every_try_of_a_mail_has_the_same_message_id(
    reaching: Settings, server: SmtpServer
) -> None:
    sent = message()
    server.mode("lost_answer")
    assert isinstance(failure(reaching, sent), MailTemporary)
    server.mode("ok")
    transport.send(reaching, sent)
    first, second = server.mails()[-2:]
    assert first.mail["Message-ID"] == second.mail["Message-ID"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_becomes_a_header_or_a_recipient(
    reaching: Settings, server: SmtpServer, name: str
) -> None:
    transport.send(reaching, message(name=name))
    received = server.mails()[-1]
    assert received.recipients == ["ada@example.com"]
    assert received.mail.keys() == HEADERS
    (to,) = received.mail["To"].addresses
    assert to.addr_spec == "ada@example.com"


@given(
    name=st.text(max_size=100) | st.text(alphabet='=?"<>@,;:\\ü\r\n utf8qb_0DA()[]', max_size=100)
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_name_the_headers_stay_what_they_are(
    given_settings: Settings, name: str
) -> None:
    composed = transport._composed(given_settings, message(name=name), "ada@example.com")
    read = BytesParser(policy=policy.default).parsebytes(bytes(composed))
    assert read.keys() == HEADERS
    (to,) = read["To"].addresses
    assert to.addr_spec == "ada@example.com"
    assert "eve" not in to.display_name or "eve" in name


def test_a_subject_that_would_become_another_header_is_a_mistake(given_settings: Settings) -> None:
    with pytest.raises(ValueError, match="linefeed"):
        transport.send(given_settings, replace(message(), subject="Hello\r\nBcc: eve@evil.example"))


def test_names_stand_in_the_header_as_far_as_they_can(given_settings: Settings) -> None:
    def shown(name: str) -> str:
        mail = transport._composed(given_settings, message(name=name), "ada@example.com")
        (to,) = BytesParser(policy=policy.default).parsebytes(bytes(mail))["To"].addresses
        return str(to.display_name)

    assert shown("J. R. R. Ö'Brien-Smith") == "J. R. R. Ö'Brien-Smith"
    assert shown("👩\u200d🚀 Ada") == "👩\u200d🚀 Ada"
    assert shown("Ada (Bob), Jr.\r\n") == "Ada Bob Jr."
    # Python's reader leaves the spaces between the pieces of a long name.
    assert shown("Ü" * 100).replace(" ", "") == "Ü" * 100


def test_letters_of_all_alphabets_arrive(reaching: Settings, server: SmtpServer) -> None:
    sent = message(extra=" Zoë, 你好 👋" + "x" * 2_000)
    transport.send(reaching, sent)
    received = server.mails()[-1]
    text, html = received.mail.iter_parts()
    assert text.get_content().replace("\r\n", "\n") == sent.text
    assert html.get_content().replace("\r\n", "\n") == sent.html
    assert received.raw.isascii()
    assert max(len(line) for line in received.raw.splitlines()) <= 998


def test_a_domain_of_other_letters_is_written_in_ascii(
    reaching: Settings, server: SmtpServer
) -> None:
    transport.send(reaching, message(to="ada@bücher.example"))
    received = server.mails()[-1]
    assert received.recipients == ["ada@xn--bcher-kva.example"]
    assert received.options == []


def test_an_address_of_other_letters_asks_the_server_for_it(
    reaching: Settings, server: SmtpServer
) -> None:
    transport.send(reaching, message(to="jürgen@bücher.example", name="Jürgen"))
    received = server.mails()[-1]
    assert received.recipients == ["jürgen@xn--bcher-kva.example"]
    assert "SMTPUTF8" in received.options
    assert received.mail["To"].addresses[0].username == "jürgen"


def test_a_server_that_takes_no_such_address_refuses_the_mail(
    given_settings: Settings, tmp_path: Path
) -> None:
    with smtp_server(tmp_path, smtputf8=False) as plain:
        settings = replace(given_settings, mail_url=plain.url)
        refusal = failure(settings, message(to="jürgen@example.com"))
        transport.send(settings, message())
    assert isinstance(refusal, MailRefused)
    assert str(refusal) == "SMTPUTF8 is not offered"


@pytest.mark.parametrize(
    "to", ["nobody", "", "a@b\r\nRCPT TO:<eve@evil.example>", "ada@example.com, eve@evil.example"]
)
def test_what_is_no_address_is_refused(given_settings: Settings, to: str) -> None:
    with pytest.raises(MailRefused, match="not an address"):
        transport.send(given_settings, message(to=to))


def test_without_a_server_a_mail_is_a_file_that_the_log_names(given_settings: Settings) -> None:
    sent = message(name="Zoë", extra=" Zoë")
    folder = given_settings.data_dir / "mail"
    with capture_logs() as lines:
        transport.send(given_settings, sent)
        transport.send(given_settings, sent)
    (path,) = folder.iterdir()
    assert path == folder / f"{sent.mail_id}.eml"
    assert [(line["event"], line["file"]) for line in lines] == [("mail_written", str(path))] * 2
    assert "ada@example.com" not in str(lines)
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    content = path.read_bytes()
    assert f"\n{LINK}\n".encode() in content
    assert b"\r" not in content
    mail = BytesParser(policy=policy.default).parsebytes(content)
    assert mail.get_body(("plain",)).get_content() == sent.text


def test_a_folder_that_cannot_be_written_is_a_passing_failure(given_settings: Settings) -> None:
    given_settings.data_dir.write_text("a file")
    assert str(failure(given_settings, message())).startswith("folder: ")


def test_production_without_a_server_keeps_its_mails(given_settings: Settings) -> None:
    production = replace(given_settings, env="production")
    assert str(failure(production, message())) == "APP_MAIL_URL is not set"
    assert not given_settings.data_dir.exists()
    assert not transport.is_configured(production)
    assert transport.is_configured(given_settings)
    assert transport.is_configured(replace(production, mail_url="smtp://localhost"))


@pytest.mark.parametrize(
    ("url", "host", "greeting"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1", "[127.0.0.1]"),
        ("http://[::1]:3000", "[IPv6:::1]", "[IPv6:::1]"),
        (f"https://{'a' * 60}.{'b' * 60}.acme.org", f"{'a' * 60}.{'b' * 60}.acme.org", None),
    ],
)
def test_a_service_calls_itself_by_its_public_url(
    reaching: Settings, server: SmtpServer, url: str, host: str, greeting: str | None
) -> None:
    sent = message()
    transport.send(replace(reaching, public_url=url), sent)
    received = server.mails()[-1]
    assert received.greeted_as == (greeting or host)
    assert f"\r\nMessage-ID: <{sent.mail_id}@{host}>\r\n".encode() in received.raw


def test_a_mail_shows_nothing_but_its_id() -> None:
    sent = message()
    assert repr(sent) == f"Message(mail_id={sent.mail_id!r})"
