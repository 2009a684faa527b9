"""Delivers a user's mails as a worker does, and reads them: they come into a folder."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from app.mail import delivery
from app.platform.settings import Settings
from app.users.values import email_key
from tests import canaries

Sql = Callable[..., list[Row[Any]]]
WAITING = """
SELECT id FROM mails WHERE state = 'waiting' AND (
    email_key = :key OR (user_id = :user_id AND (email_key IS NULL OR :key IS NULL))
) ORDER BY created_at, id
"""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail that has arrived."""

    id: UUID
    kind: str
    to: str
    subject: str
    text: str
    token: str | None

    @property
    def path(self) -> str | None:
        """Return which page its link leads to."""
        found = re.search(r"(/account/\w+)#", self.text)
        return found and found[1]


@dataclass(frozen=True, kw_only=True)
class Postman:
    """Brings the mails of this process's database."""

    settings: Settings
    sql: Sql

    def deliver(self, *, user_id: UUID | None = None, email: str | None = None) -> list[Mail]:
        """Deliver what waits for a user or an address, and return what has arrived."""
        key = None if email is None else email_key(email)
        found = self.sql(WAITING, user_id=user_id, key=key)
        return [mail for (mail_id,) in found for mail in self._bring(mail_id)]

    def _bring(self, mail_id: UUID) -> list[Mail]:
        delivery.deliver(mail_id, settings=self.settings)
        path = self.settings.data_dir / "mail" / f"{mail_id}.eml"
        if not path.exists():
            return []
        parsed = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
        plain = parsed.get_body(("plain",))
        assert plain is not None
        text = plain.get_content()
        token = re.search(r"/account/\w+#([\w=-]+)", text)
        if token is not None:
            canaries.watch(token[1])
        ((kind,),) = self.sql("SELECT kind FROM mails WHERE id = :id", id=mail_id)
        return [
            Mail(
                id=mail_id,
                kind=kind,
                to=str(parsed["To"]),
                subject=str(parsed["Subject"]),
                text=text,
                token=token and token[1],
            )
        ]
