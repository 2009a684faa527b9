"""Mails to send, and how sending them fails."""

from uuid import UUID

import pytest
from structlog.testing import capture_logs

from app.mail import transport
from app.mail.errors import MailRefused, MailTemporary
from app.platform import ids
from app.platform.settings import Settings

USER, PASSWORD = "no-reply@acme.org", "s3Kx9:@/ %-for-mails"
LINK = "https://bursar.acme.org/account/verify#" + "t" * 64


def message(
    *, to: str = "ada@example.com", name: str = "Ada", mail_id: UUID | None = None, extra: str = ""
) -> transport.Message:
    """Make a mail with a link, and with lines that SMTP and mailboxes stumble over."""
    return transport.Message(
        mail_id=mail_id or ids.new(),
        to=to,
        name=name,
        subject="Please confirm your address",
        text=f"Hello{extra}\n\n{LINK}\n.\n.hidden\nFrom the beginning\n",
        html=f"<p>Hello{extra}</p>\n<p>{LINK}</p>\n",
    )


def failure(settings: Settings, sent: transport.Message) -> MailTemporary | MailRefused:
    """Send a mail that isn't taken, and return why; nothing tells who should have got it."""
    with capture_logs() as lines, pytest.raises((MailTemporary, MailRefused)) as caught:
        transport.send(settings, sent)
    assert caught.value.__cause__ is caught.value.__context__ is None
    told = f"{caught.value!r} {lines}"
    assert not [secret for secret in (sent.to, "Ada", LINK, PASSWORD, USER) if secret in told]
    return caught.value


def temporary(settings: Settings) -> str:
    """Send a mail that isn't taken for the time being, and return why."""
    with pytest.raises(MailTemporary) as caught:
        transport.send(settings, message())
    return str(caught.value)
