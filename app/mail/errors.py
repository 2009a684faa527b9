"""What goes wrong with mails: for those who follow their links, and for those who send them.

Unprocessable ── InvalidToken   the link is not good
MailNotSent
├── MailTemporary  the same mail may go through later
└── MailRefused    this mail, or this recipient, is refused for good
"""

from app.platform.errors import Unprocessable


class InvalidToken(Unprocessable):
    """A mail's token that is used, expired, another's or none of ours."""

    code = "INVALID_TOKEN"
    message = "This link is not good any more. Ask for a new one."


class MailNotSent(Exception):
    """A mail was not taken by the mail server, as far as we know.

    The text is a step and a status, such as "RCPT 550": no address, and none of a server's words.
    """


class MailTemporary(MailNotSent):
    """The server is away, hangs, asks to come back, or has to be set up: try this mail again."""


class MailRefused(MailNotSent):
    """The server refused this mail or its recipient for good: trying again doesn't help."""
