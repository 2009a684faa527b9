"""Sends a mail: to the mail server, or into a folder where development has none.

It blocks, so it belongs into a worker process, and never into a transaction.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit
from uuid import UUID

from email_validator import validate_email

from app.mail import submission
from app.mail.errors import MailRefused, MailTemporary
from app.mail.wording import on_one_line
from app.platform import clock
from app.platform.logging import get_logger
from app.platform.settings import Settings
from app.platform.settings.mail import mailbox, server_of

# What has a meaning in a list of addresses, and the marks of RFC 2047's encoded words, which Python
# would decode: a name could end the header by them and begin another.
_SPECIAL = re.compile(r'[()<>\[\]:;@\\,"=?]+')
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A mail as it is written, the same for each try. Only the id shows in a representation.

    `to` and `name` are strangers' words; the subject is ours, and holds none of theirs.
    """

    mail_id: UUID
    to: str = field(repr=False)
    name: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)


def is_configured(settings: Settings) -> bool:
    """Tell whether mails have a place to go: a server, or development's folder."""
    return settings.mail_url is not None or not settings.is_production


def send(settings: Settings, message: Message) -> None:
    """Hand a mail to the mail server; in development and test without one, write it to a file.

    When this returns, the server has answered for the mail. When it fails the server may have the
    mail all the same. It takes a minute and the time to connect at most.

    Raises MailTemporary or MailRefused.
    """
    recipient = _recipient(message.to)
    mail = _composed(settings, message, recipient)
    if settings.mail_url is not None:
        submission.submit(
            server_of(settings.mail_url),
            mail,
            sender=mailbox(settings.mail_from)[1],
            recipient=recipient,
            own_name=_host(settings),
        )
    elif is_configured(settings):
        _write(settings.data_dir / "mail", message.mail_id, mail)
    else:
        raise MailTemporary("APP_MAIL_URL is not set")


def probe(settings: Settings) -> None:
    """Connect to the mail server of the settings as for a mail, and send none.

    Raises MailTemporary.
    """
    if settings.mail_url is not None:
        submission.probe(server_of(settings.mail_url), own_name=_host(settings))


def _recipient(to: str) -> str:
    """Return an address with its domain in ASCII, which every server takes.

    Raises MailRefused.
    """
    with suppress(ValueError):
        parts = validate_email(to, check_deliverability=False, test_environment=True)
        return f"{parts.local_part}@{parts.ascii_domain}"
    raise MailRefused("not an address")


def _composed(settings: Settings, message: Message, recipient: str) -> EmailMessage:
    """Return a mail with its headers, and both its parts: text first, as RFC 2046, 5.1.4 asks."""
    mail = EmailMessage(policy=policy.SMTP.clone(utf8=not recipient.isascii()))
    name, sender = mailbox(settings.mail_from)
    mail["From"] = Address(display_name=name, addr_spec=sender)
    local, _, domain = recipient.rpartition("@")
    mail["To"] = Address(display_name=_plain(message.name), username=local, domain=domain)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(clock.now())
    mail["Message-ID"] = f"<{message.mail_id}@{_host(settings)}>"
    # RFC 3834: so no absence notice answers it.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text, cte=_encoding(message.text, settings))
    mail.add_alternative(message.html, subtype="html", cte=_encoding(message.html, settings))
    return mail


def _encoding(content: str, settings: Settings) -> str:
    """Choose what every server takes; a file of development shows each link as it is."""
    if content.isascii():
        return "7bit"
    return "8bit" if settings.mail_url is None else "quoted-printable"


def _plain(name: str) -> str:
    """Return a user's name without anything that means something in a header."""
    return on_one_line(_SPECIAL.sub(" ", name))


def _host(settings: Settings) -> str:
    """Return the name that clients know this service by."""
    host = urlsplit(settings.public_url).hostname or ""
    return f"[IPv6:{host}]" if ":" in host else host


def _write(folder: Path, mail_id: UUID, mail: EmailMessage) -> None:
    """Lay a mail into a folder under its id, in one step; a later try replaces it.

    Raises MailTemporary.
    """
    path = folder / f"{mail_id}.eml"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Its mode is 0600: the link in a mail is as good as a password.
        with NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            # Lines end as a developer's programs expect it.
            file.write(mail.as_bytes(policy=mail.policy.clone(linesep="\n")))
        Path(file.name).replace(path)
    except OSError as error:
        failure = MailTemporary(f"folder: {error.strerror}")
    else:
        _log.info("mail_written", file=str(path))
        return
    raise failure
