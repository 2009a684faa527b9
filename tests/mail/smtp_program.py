"""A mail server that keeps what it gets as files, and misbehaves as it is told, while it runs.

    python -m tests.mail.smtp_program '{"folder": …, "tls": …, "user": …, "password": …, …}'

It writes its port on standard output, and ends with its standard input. It looks at the file
`mode` of its folder all the time, and repeats in the file `now` which mode counts. MODES says what
they do.
"""

import asyncio
import json
import os
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

MODES = {
    "ok": "takes everything",
    "refuse": "doesn't listen",
    "hang": "says nothing",
    "drip": "greets for ever, a byte now and then",
    "busy": "greets with 421 and closes",
    "closed": "greets with 554 and closes",
    "auth_454": "can't check a login just now",
    "auth_drop": "cuts the connection at a login",
    "mail_553": "doesn't take the sender",
    "rcpt_451": "asks to come back later with this recipient",
    "rcpt_550": "doesn't know the recipient",
    "rcpt_530": "takes recipients after a login only",
    "rcpt_lost": "takes the recipient, and then says that there was none",
    "drop": "cuts the connection when it hears the recipient",
    "data_451": "asks to come back later with this mail",
    "data_554": "doesn't want this mail",
    "hang_data": "doesn't answer, nor keep the mail, when it has it all",
    "lost_answer": "keeps the mail and cuts the connection before it says so",
    "gone": "keeps the mail, says so, and cuts the connection",
}
LONG = 3600.0


class Running:
    """The server, its mode, and what it was started with."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.folder = Path(options["folder"])
        self.options = options
        self.mode = "ok"
        self.port = 0
        self.listening: asyncio.Server | None = None
        self.tls: ssl.SSLContext | None = None
        if options["tls"]:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(self.folder / "server.pem")

    async def run(self) -> None:
        """Follow the file that says how to behave, for ever."""
        await self.listen()
        print(self.port, flush=True)
        while True:
            mode = (self.folder / "mode").read_text()
            if mode in MODES and mode != self.mode:
                await self.change(mode)
            await asyncio.sleep(0.01)

    async def change(self, mode: str) -> None:
        if self.listening and mode == "refuse":
            self.listening.close()
            self.listening = None
        elif not self.listening:
            await self.listen()
        self.mode = mode
        write(self.folder / "now", mode.encode())

    async def listen(self) -> None:
        self.listening = await asyncio.get_running_loop().create_server(
            self.protocol,
            "127.0.0.1",
            self.port,
            ssl=self.tls if self.options["tls"] == "implicit" else None,
        )
        self.port = self.listening.sockets[0].getsockname()[1]

    def protocol(self) -> asyncio.Protocol:
        """Return what speaks on a new connection."""
        greetings = {"hang": b"", "busy": b"421 busy\r\n", "closed": b"554 no service\r\n"}
        if self.mode in greetings:
            return Greeting(greetings[self.mode])
        if self.mode == "drip":
            return Dripping()
        return SMTP(
            Handler(self),
            hostname="mail.test",
            enable_SMTPUTF8=self.options["smtputf8"],
            tls_context=self.tls if self.options["tls"] == "starttls" else None,
            require_starttls=self.options["required"],
            auth_required=bool(self.options["user"]),
            auth_require_tls=self.options["tls"] == "starttls",
            auth_exclude_mechanism=() if self.options["user"] else ("LOGIN", "PLAIN"),
            authenticator=self.authenticate,
            loop=asyncio.get_running_loop(),
        )

    def authenticate(self, server: SMTP, session: Session, *rest: Any) -> AuthResult:
        told = rest[-1]
        if self.mode == "auth_454":
            return AuthResult(success=False, handled=False, message="454 4.7.0 come back")
        if self.mode == "auth_drop":
            server.transport.abort()
            return AuthResult(success=False, handled=True)
        expected = [self.options["user"].encode(), self.options["password"].encode()]
        right = isinstance(told, LoginPassword) and [told.login, told.password] == expected
        return AuthResult(success=right, handled=False, auth_data=told)


class Greeting(asyncio.Protocol):
    """Says one thing and closes; says nothing and stays, when there is nothing to say."""

    def __init__(self, words: bytes) -> None:
        self.words = words

    def connection_made(self, transport: Any) -> None:
        if self.words:
            transport.write(self.words)
            transport.close()


class Dripping(asyncio.Protocol):
    """Says the first line of an answer, a byte at a time, and never the end of it."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.drop()

    def drop(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"2")
            asyncio.get_running_loop().call_later(0.05, self.drop)


class Handler:
    """Answers as the mode says, and keeps the mails."""

    def __init__(self, running: Running) -> None:
        self.running = running

    async def mail(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.running.mode == "mail_553":
            return f"553 5.7.1 <{address}> isn't yours"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def rcpt(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refusals = {
            "rcpt_451": "451 4.2.1 <{}> is busy",
            "rcpt_550": "550 5.1.1 <{}> isn't known",
            "rcpt_530": "530 5.7.0 <{}> after a login",
        }
        if self.running.mode == "drop":
            await cut(server)
        if self.running.mode in refusals:
            return refusals[self.running.mode].format(address)
        if self.running.mode != "rcpt_lost":
            envelope.rcpt_tos.append(address)
        return "250 OK"

    async def data(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        refusals = {
            "data_451": f"451 4.3.0 no room for {envelope.rcpt_tos}",
            "data_554": f"554 5.6.0 nothing of the kind for {envelope.rcpt_tos}",
        }
        mode = self.running.mode
        if mode in refusals:
            return refusals[mode]
        if mode == "hang_data":
            await asyncio.sleep(LONG)
        self.keep(server, session, envelope)
        if mode == "lost_answer":
            await cut(server)
        if mode == "gone":
            asyncio.get_running_loop().call_soon(server.transport.close)
        return "250 OK"

    def keep(self, server: SMTP, session: Session, envelope: Envelope) -> None:
        """Keep a mail and its envelope; the envelope comes last, so nobody reads half of both."""
        name = f"{time.time_ns():020}"
        login = session.auth_data
        told = {
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "options": envelope.mail_options,
            "greeted_as": session.host_name,
            "encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "user": login.login.decode() if isinstance(login, LoginPassword) else None,
        }
        mails = self.running.folder / "mails"
        write(mails / f"{name}.eml", envelope.original_content or b"")
        write(mails / f"{name}.json", json.dumps(told).encode())


# aiosmtpd looks for these names.
for command in ("MAIL", "RCPT", "DATA"):
    setattr(Handler, f"handle_{command}", getattr(Handler, command.lower()))


async def cut(server: SMTP) -> None:
    """End a connection without a word; losing it also ends the handler that waits here."""
    server.transport.abort()
    await asyncio.sleep(LONG)


def write(path: Path, content: bytes) -> None:
    """Write a file in one step."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def end_with_the_input() -> None:
    """End when whoever started this has ended, however they did."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_input, daemon=True).start()
    asyncio.run(Running(json.loads(sys.argv[1])).run())
