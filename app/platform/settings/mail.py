"""The shapes of the settings of mail, and what transport reads out of them.

The rule of values.py holds here too: a message says what the value must be, and never
repeats it.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote

from marshmallow import ValidationError

from app.platform.settings.addresses import is_host, split

# RFC 6409 and RFC 8314: where mail is handed in, without and with TLS from the first byte.
PORTS = {"smtp": 587, "smtps": 465}
REQUIRED, OPPORTUNISTIC, OFF = "required", "opportunistic", "off"
# RFC 5322: a display name in quotes or without, and a dot-atom in front of the @.
_ADDRESS = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[^@\s<>]+"
_MAILBOX = re.compile(
    rf'("(?P<quoted>[^"\\<>]+)" *|(?P<name>[^"\\<>,;:@]*[^"\\<>,;:@ ])? *)'
    rf"<(?P<address>{_ADDRESS})>|(?P<bare>{_ADDRESS})"
)
# What counts in development, where mails lie in a folder and go to nobody.
DEVELOPMENT_MAILBOX = "Bursar <bursar@localhost>"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mails are handed in; `starttls` is required, opportunistic or off.

    With `implicit_tls` the connection is encrypted from its first byte, and `starttls` is off.
    """

    host: str
    port: int
    implicit_tls: bool
    starttls: str
    user: str = field(repr=False)
    password: str = field(repr=False)


def mail_url(raw: Any) -> str:
    """Take the URL of a mail server that `server_of` can read.

    Raises ValidationError.
    """
    server_of(raw)
    return str(raw)


def mail_from(raw: Any) -> str:
    """Take an address with or without a name in front: `Bursar <no-reply@acme.org>`.

    Raises ValidationError.
    """
    mailbox(raw)
    return str(raw)


def server_of(url: Any) -> MailServer:
    """Read a URL: `smtp://user:password@host:587?starttls=required`, `smtps://host:465`.

    Whoever logs in has to know whom they tell the password: on other machines that takes a
    certificate, so `smtps` or `starttls=required`. This machine may do without.

    Raises ValidationError.
    """
    parts = split(url)
    if (
        not parts
        or parts.scheme not in PORTS
        or not parts.hostname
        or not is_host(parts.hostname)
        or parts.path not in ("", "/")
        or parts.fragment
        or bool(parts.username) != bool(parts.password)
    ):
        raise ValidationError(
            "must look like smtp://user:password@host:587 or smtps://user:password@host:465, with"
            " special characters of the user name and the password percent-encoded"
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    # smtplib logs in with ASCII only, and would fail at the first mail instead of here.
    if not re.fullmatch("[ -~]*", user + password):
        raise ValidationError("must have a user name and a password of ASCII characters")
    local = _is_this_machine(parts.hostname)
    starttls = _starttls(parts, local=local)
    if user and not local and parts.scheme == "smtp" and starttls != REQUIRED:
        raise ValidationError(
            "must not send a password without a checked certificate: use smtps, or smtp with"
            " starttls=required"
        )
    return MailServer(
        host=parts.hostname,
        port=parts.port or PORTS[parts.scheme],
        implicit_tls=parts.scheme == "smtps",
        starttls=starttls,
        user=user,
        password=password,
    )


def mailbox(text: Any) -> tuple[str, str]:
    """Read the name of a sender, "" where there is none, and the address.

    The address is ASCII, so that every mail server takes it; a domain of other letters is written
    as its A-label (`xn--…`).

    Raises ValidationError.
    """
    found = _MAILBOX.fullmatch(text) if isinstance(text, str) and text.isprintable() else None
    address = found["address"] or found["bare"] if found else ""
    if not found or not is_host(address.rpartition("@")[2]):
        raise ValidationError(
            "must be an address such as no-reply@acme.org or Bursar <no-reply@acme.org>, with"
            " nothing but ASCII in the address"
        )
    return found["quoted"] or found["name"] or "", address


def _starttls(parts: SplitResult, *, local: bool) -> str:
    """Read what the query says about STARTTLS.

    On this machine nobody listens, and a mail server there mostly has a certificate that it made
    itself; everywhere else a server that doesn't prove its name gets no mail.

    Raises ValidationError.
    """
    if parts.scheme == "smtps" and not parts.query:
        return OFF
    if parts.scheme == "smtp":
        default = OPPORTUNISTIC if local else REQUIRED
        name, _, value = (parts.query or f"starttls={default}").partition("=")
        if name == "starttls" and value in (REQUIRED, OPPORTUNISTIC, OFF):
            return value
    raise ValidationError(
        "must have nothing behind a ? but, with smtp, starttls=required, starttls=opportunistic or"
        " starttls=off"
    )


def _is_this_machine(host: str) -> bool:
    """Tell whether a host is loopback, by its spelling: nothing is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.endswith(".localhost") or host == "localhost"
