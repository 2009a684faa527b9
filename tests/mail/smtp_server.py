"""Runs a real mail server in a process of its own, for tests; it also fails, hangs and refuses.

    with smtp_server(tmp_path) as server:
        settings = replace(settings, mail_url=server.url)
        ...
        (received,) = server.mails()
        server.mode("hang")

smtp_program.py is the server itself, and its MODES are what it can be told.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import Parser
from pathlib import Path
from urllib.parse import quote

from tests.mail import certificates

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0


@dataclass(frozen=True, kw_only=True)
class Received:
    """A mail as it arrived, and its envelope."""

    mail: EmailMessage
    raw: bytes
    sender: str
    recipients: list[str]
    options: list[str]
    greeted_as: str
    encrypted: bool
    user: str | None


@dataclass(frozen=True, kw_only=True)
class SmtpServer:
    """A running mail server; `url` is what APP_MAIL_URL has to be to reach it."""

    folder: Path
    port: int
    url: str

    @property
    def ca_file(self) -> str:
        """Return the file that SSL_CERT_FILE has to name so that its certificate is good."""
        return str(self.folder / "ca.pem")

    def mode(self, mode: str) -> None:
        """Behave in another way from the next connection or command on."""
        (self.folder / "mode").write_text(mode)
        _wait_until(lambda: (self.folder / "now").read_text() == mode)

    def mails(self) -> list[Received]:
        """Return everything that was received so far, in its order."""
        return [_read(path) for path in sorted((self.folder / "mails").glob("*.json"))]


@contextmanager
def smtp_server(
    folder: Path,
    *,
    tls: str = "",
    login: tuple[str, str] | None = None,
    names: tuple[str, ...] = ("127.0.0.1", "localhost"),
    required: bool = True,
    smtputf8: bool = True,
) -> Iterator[SmtpServer]:
    """Run a mail server on loopback until the block ends; it keeps all it gets in the folder.

    `tls` is starttls, implicit or nothing; without `required` it also talks without STARTTLS.
    `names` are those of its certificate. With a `login` of user and password it takes nothing
    without.
    """
    (folder / "mails").mkdir(parents=True, exist_ok=True)
    for name in ("mode", "now"):
        (folder / name).write_text("ok")
    if tls:
        certificates.make(folder, names=names)
    user, password = login or ("", "")
    options = {"folder": str(folder), "tls": tls, "user": user, "password": password}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", "-m", "tests.mail.smtp_program"),
                json.dumps(options | {"required": required, "smtputf8": smtputf8}),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, (folder / "log").read_text()
        before = f"{quote(user, safe='')}:{quote(password, safe='')}@" if login else ""
        scheme = "smtps" if tls == "implicit" else "smtp"
        after = "?starttls=required" if tls == "starttls" else ""
        url = f"{scheme}://{before}127.0.0.1:{int(port)}{after}"
        yield SmtpServer(folder=folder, port=int(port), url=url)
    finally:
        process.kill()
        process.communicate()


def _read(path: Path) -> Received:
    raw = path.with_suffix(".eml").read_bytes()
    # As text, because headers may hold letters of all alphabets (RFC 6532).
    mail = Parser(policy=policy.default).parsestr(raw.decode())
    return Received(mail=mail, raw=raw, **json.loads(path.read_text()))


def _wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)
