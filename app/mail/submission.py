"""Hands a mail to a mail server by SMTP (RFC 5321), and says what came of it.

What fails here fails for all mails until somebody mends it, or until the server is back; only what
the server says about the recipient or the mail itself is a refusal of this mail.
"""

import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage

from app.mail.errors import MailNotSent, MailRefused, MailTemporary
from app.platform.logging import get_logger
from app.platform.settings.mail import OFF, REQUIRED, MailServer

# To each network address of the server, and for TLS from the first byte.
CONNECT_SECONDS = 10.0
# For each answer. A server that has the mail and answers later gets it twice, with one Message-ID.
STEP_SECONDS = 20.0
# For all of it: a server that sends a byte now and then never exceeds the limit of a step.
WHOLE_SECONDS = 60.0
GOODBYE_SECONDS = 2.0
# RFC 5321, 4.2.3 and RFC 4954, 6: it wants a login first, whatever it was asked.
LOGIN_WANTED = 530

_log = get_logger(__name__)


def submit(
    server: MailServer, mail: EmailMessage, *, sender: str, recipient: str, own_name: str
) -> None:
    """Hand a mail over; `own_name` is what this machine calls itself.

    When this returns, the server has answered for the mail. It takes `WHOLE_SECONDS` at most, and
    before that `CONNECT_SECONDS` for each of the server's network addresses.

    Raises MailTemporary or MailRefused.
    """
    _talk(
        server,
        own_name,
        lambda client: _hand_over(client, mail, sender=sender, recipient=recipient),
    )


def probe(server: MailServer, *, own_name: str) -> None:
    """Connect as for a mail, encryption and login included, and leave without one.

    It takes as long as `submit` at most.

    Raises MailTemporary.
    """
    _talk(server, own_name, lambda client: None)


def _talk(server: MailServer, own_name: str, work: Callable[["_Client"], None]) -> None:
    """Connect, encrypt and log in as the settings say, do the work, and say good-bye.

    Raises MailTemporary or MailRefused.
    """
    failure: MailNotSent
    try:
        with _connected(server, own_name=own_name) as client:
            _encrypt(client, server)
            _log_in(client, server)
            work(client)
            # It has the mail: how it says good-bye doesn't matter, and isn't waited for long.
            with suppress(smtplib.SMTPException, OSError):
                client.limit(GOODBYE_SECONDS)
                client.quit()
        return
    except MailNotSent as known:
        failure = type(known)(*known.args)
    except (smtplib.SMTPException, OSError) as error:
        code = error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else ""
        failure = MailTemporary(f"{type(error).__name__} {code}".rstrip())
    # A new exception, outside of the handlers: no server's words come along as its context.
    raise failure


class _Client(smtplib.SMTP):
    """smtplib's client, on a connection that is open already."""

    def __init__(self, connection: socket.socket, server: MailServer, own_name: str) -> None:
        # Without a name of ours, smtplib would ask the DNS for one, and wait for it without limit.
        literal = f"[{own_name}]" if own_name.replace(".", "").isdigit() else own_name
        super().__init__(local_hostname=literal)
        # The name that STARTTLS checks the certificate for.
        self._host = server.host
        self.sock: socket.socket = connection

    def limit(self, seconds: float) -> None:
        """Wait for each answer no longer than this."""
        self.sock.settimeout(seconds)

    def cut(self) -> None:
        """End the connection under a thread that waits for it; that one sees an end of file."""
        with suppress(OSError):
            # Not by the method of a TLS socket: it would go on in plain text.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


@contextmanager
def _connected(server: MailServer, *, own_name: str) -> Iterator[_Client]:
    """Connect and be greeted; whatever happens then, the connection ends in `WHOLE_SECONDS`.

    Raises MailTemporary, SMTPException or OSError.
    """
    connection = socket.create_connection((server.host, server.port), CONNECT_SECONDS)
    client = _Client(connection, server, own_name)
    over = threading.Event()
    watch = threading.Thread(target=_cut_when_late, args=(client, over), daemon=True)
    watch.start()
    try:
        if server.implicit_tls:
            with _certificate_checked():
                context = ssl.create_default_context()
                client.sock = context.wrap_socket(client.sock, server_hostname=server.host)
        client.limit(STEP_SECONDS)
        code, _ = client.getreply()
        if code != 220:
            raise MailTemporary(f"greeting {code}")
        yield client
    finally:
        over.set()
        watch.join()
        client.close()


def _cut_when_late(client: _Client, over: threading.Event) -> None:
    """Cut the connection when it takes too long, and again while a TLS handshake replaces it."""
    over.wait(WHOLE_SECONDS)
    while not over.wait(1 / 10):
        client.cut()


@contextmanager
def _certificate_checked() -> Iterator[None]:
    """Tell the operator when the certificate of the mail server isn't good.

    Raises MailTemporary.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise _to_mend(
            f"certificate: {error.verify_message}",
            "APP_MAIL_URL needs the name that is in the server's certificate; SSL_CERT_FILE may"
            " name a file with your own authority.",
        ) from None


def _encrypt(client: _Client, server: MailServer) -> None:
    """Go on in TLS as the settings say.

    Raises MailTemporary, SMTPException or OSError.
    """
    client.ehlo_or_helo_if_needed()
    offered = client.has_extn("starttls")
    required = server.starttls == REQUIRED
    if server.starttls == OFF or not (offered or required):
        return
    if not offered:
        raise _to_mend(
            "STARTTLS is not offered",
            "Use smtps:// in APP_MAIL_URL, or the port where the server offers STARTTLS.",
        )
    context = ssl.create_default_context()
    if not required:
        # RFC 7435: better than none. Whoever could forge the certificate could hide STARTTLS, too.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with _certificate_checked():
        client.starttls(context=context)
    client.ehlo_or_helo_if_needed()


def _log_in(client: _Client, server: MailServer) -> None:
    """Log in when the settings have a password.

    Raises MailTemporary, SMTPException or OSError.
    """
    if not server.user:
        return
    try:
        client.login(server.user, server.password)
    except smtplib.SMTPServerDisconnected:
        raise
    except smtplib.SMTPException as error:
        code = error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else None
        if code is not None and code < 500:
            raise
        reason = "AUTH is not offered" if code is None else f"AUTH {code}"
        raise _to_mend(reason, "Check user name and password in APP_MAIL_URL.") from None


def _hand_over(client: _Client, mail: EmailMessage, *, sender: str, recipient: str) -> None:
    """Hand the mail over, and get the server's word for it.

    Raises MailTemporary, MailRefused, SMTPException or OSError.
    """
    options = [] if recipient.isascii() else ["SMTPUTF8"]
    if options and not client.has_extn("smtputf8"):
        raise MailRefused("SMTPUTF8 is not offered")
    code, _ = client.mail(sender, options)
    if code >= 500:
        # That isn't about this mail: the next one has the same sender.
        raise _to_mend(
            f"MAIL {code}", "The server takes no mails from APP_MAIL_FROM, or wants a login."
        )
    _expect("MAIL", code)
    code, _ = client.rcpt(recipient)
    _expect("RCPT", code)
    try:
        code, _ = client.data(bytes(mail))
    except smtplib.SMTPDataError as error:
        code = error.smtp_code
    _expect("DATA", code)


def _expect(step: str, code: int) -> None:
    """Take an answer that says yes (RFC 5321, 4.3.2).

    Raises MailTemporary or MailRefused.
    """
    if code == LOGIN_WANTED:
        raise _to_mend(f"{step} {code}", "The server wants a user and a password in APP_MAIL_URL.")
    if 500 <= code < 600:
        raise MailRefused(f"{step} {code}")
    if not 200 <= code < 300:
        raise MailTemporary(f"{step} {code}")


def _to_mend(reason: str, advice: str) -> MailTemporary:
    """Tell the operator what to do, and give the failure: until then every mail waits."""
    _log.error("mail_server_unusable", reason=reason, advice=advice)
    return MailTemporary(reason)
