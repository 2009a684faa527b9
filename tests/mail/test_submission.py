"""How a real mail server is spoken to: what fails for now, what for good; TLS and logins."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.mail import submission, transport
from app.mail.errors import MailRefused, MailTemporary
from app.platform.settings import Settings
from tests import canaries
from tests.mail.sending import PASSWORD, USER, failure, message, temporary
from tests.mail.smtp_server import SmtpServer, smtp_server

Trusting = Callable[[SmtpServer], None]


@pytest.mark.parametrize(
    ("mode", "kind", "reason"),
    [
        ("refuse", MailTemporary, "ConnectionRefusedError"),
        ("busy", MailTemporary, "greeting 421"),
        ("closed", MailTemporary, "greeting 554"),
        ("mail_553", MailTemporary, "MAIL 553"),
        ("rcpt_451", MailTemporary, "RCPT 451"),
        ("rcpt_530", MailTemporary, "RCPT 530"),
        ("rcpt_550", MailRefused, "RCPT 550"),
        ("rcpt_lost", MailRefused, "DATA 503"),
        ("drop", MailTemporary, "SMTPServerDisconnected"),
        ("data_451", MailTemporary, "DATA 451"),
        ("data_554", MailRefused, "DATA 554"),
        ("lost_answer", MailTemporary, "SMTPServerDisconnected"),
    ],
)
def test_a_failure_says_whether_it_passes_and_nothing_of_what_the_server_said(
    reaching: Settings,
    server: SmtpServer,
    mode: str,
    kind: type[MailTemporary | MailRefused],
    reason: str,
) -> None:
    server.mode(mode)
    found = failure(reaching, message())
    assert (type(found), str(found)) == (kind, reason)


def test_a_mail_that_was_taken_is_sent_however_the_server_says_good_bye(
    reaching: Settings, server: SmtpServer
) -> None:
    before = len(server.mails())
    server.mode("gone")
    transport.send(reaching, message())
    assert len(server.mails()) == before + 1


@pytest.mark.parametrize("mode", ["hang", "hang_data"])
def test_a_server_that_says_nothing_is_a_passing_failure(
    reaching: Settings, server: SmtpServer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "STEP_SECONDS", 0.3)
    server.mode(mode)
    began = time.monotonic()
    assert isinstance(failure(reaching, message()), MailTemporary)
    assert 0.3 <= time.monotonic() - began < 3


def test_a_server_that_drips_does_not_hold_a_worker_for_ever(
    reaching: Settings, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "WHOLE_SECONDS", 0.5)
    server.mode("drip")
    began = time.monotonic()
    assert isinstance(failure(reaching, message()), MailTemporary)
    assert 0.5 <= time.monotonic() - began < 3


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> Trusting:
    """A function that makes the authority of a server one of ours."""
    return lambda server: monkeypatch.setenv("SSL_CERT_FILE", server.ca_file)


@pytest.fixture(scope="module", params=["starttls", "implicit"])
def locked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SmtpServer]:
    """A server that wants TLS and a login."""
    canaries.watch(PASSWORD)
    folder = tmp_path_factory.mktemp("smtp")
    with smtp_server(folder, tls=request.param, login=(USER, PASSWORD)) as running:
        yield running


def test_a_mail_goes_through_tls_and_after_a_login(
    given_settings: Settings, locked: SmtpServer, trusting: Trusting
) -> None:
    trusting(locked)
    transport.send(replace(given_settings, mail_url=locked.url), message())
    received = locked.mails()[-1]
    assert (received.encrypted, received.user) == (True, USER)


def test_nothing_is_told_to_a_server_whose_certificate_nobody_knows(
    given_settings: Settings, locked: SmtpServer
) -> None:
    before = len(locked.mails())
    settings = replace(given_settings, mail_url=locked.url)
    with capture_logs() as lines:
        found = temporary(settings)
    assert found.startswith("certificate: ")
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("mail_server_unusable", "error")
    assert "SSL_CERT_FILE" in line["advice"]
    assert len(locked.mails()) == before


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_certificate_of_another_server_is_not_good(
    given_settings: Settings, tmp_path: Path, trusting: Trusting, tls: str
) -> None:
    with smtp_server(tmp_path, tls=tls, names=("mail.acme.org",)) as other:
        trusting(other)
        found = failure(replace(given_settings, mail_url=other.url), message())
        assert isinstance(found, MailTemporary)
        assert "certificate" in str(found)
        assert other.mails() == []


def test_a_wrong_password_loses_no_mail_and_says_what_to_do(
    given_settings: Settings, locked: SmtpServer, trusting: Trusting
) -> None:
    trusting(locked)
    settings = replace(given_settings, mail_url=locked.url.replace("s3Kx9", "other"))
    with capture_logs() as lines:
        assert temporary(settings) == "AUTH 535"
    (line,) = lines
    assert line["log_level"] == "error"
    assert "password in APP_MAIL_URL" in line["advice"]


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("auth_454", "SMTPAuthenticationError 454"), ("auth_drop", "SMTPServerDisconnected")],
)
def test_a_server_that_cannot_check_a_login_now_is_no_mistake_of_the_operator(
    given_settings: Settings, locked: SmtpServer, trusting: Trusting, mode: str, reason: str
) -> None:
    trusting(locked)
    locked.mode(mode)
    with capture_logs() as lines:
        assert temporary(replace(given_settings, mail_url=locked.url)) == reason
    assert lines == []
    locked.mode("ok")


@pytest.mark.parametrize(
    ("query", "userinfo", "reason"),
    [("?starttls=required", "", "STARTTLS is not offered"), ("", "u:p@", "AUTH is not offered")],
)
def test_what_the_server_does_not_offer_is_a_mistake_of_the_operator(
    reaching: Settings, server: SmtpServer, query: str, userinfo: str, reason: str
) -> None:
    url = server.url.replace("://", f"://{userinfo}") + query
    with capture_logs() as lines:
        assert temporary(replace(reaching, mail_url=url)) == reason
    assert [line["event"] for line in lines] == ["mail_server_unusable"]


@pytest.mark.parametrize(("query", "encrypted"), [("opportunistic", True), ("off", False)])
def test_on_this_machine_any_certificate_will_do_and_tls_can_be_switched_off(
    given_settings: Settings, tmp_path: Path, query: str, encrypted: bool
) -> None:
    with smtp_server(tmp_path, tls="starttls", required=False) as local:
        url = local.url.replace("required", query)
        transport.send(replace(given_settings, mail_url=url), message())
        (received,) = local.mails()
    assert received.encrypted == encrypted
