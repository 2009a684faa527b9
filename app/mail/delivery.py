"""Delivers a mail: looks whom to write to, writes, sends, and notes that it was sent.

Runs in a worker, as a job that may run more than once: a mail that is sent, dead or gone is left
alone. Only a worker that dies between sending and noting it makes a second copy, which has the same
Message-ID.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, delete, select, update

from app.mail import messages, tokens, transport
from app.mail.errors import MailRefused
from app.mail.models import MailRow, mails
from app.mail.transport import Message
from app.mail.values import LIFETIMES, Kind, State
from app.platform import clock
from app.platform.db import reading, transaction
from app.platform.logging import get_logger
from app.platform.settings import Settings
from app.users import service as users
from app.users.models import UserRow
from app.users.values import GONE, Status, email_key

log = get_logger(__name__)

_OF: BindParameter[UUID] = bindparam("mail_id")
_READ = select(mails).where(mails.c.id == _OF, mails.c.state == State.WAITING)
_DELETE = delete(mails).where(mails.c.id == _OF)
_CHANGE = update(mails).where(mails.c.id == _OF, mails.c.state == State.WAITING)
# Whoever is going is written to about nothing else: how to take it back.
_FAREWELLS = (Kind.DELETION, Kind.CHANGE_NOTICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """Whom a mail is really written to, and which one that makes it."""

    kind: Kind
    email: str
    name: str
    user_id: UUID | None


def deliver(mail_id: UUID, *, settings: Settings) -> None:
    """Send a mail, or delete it when there is nobody to write to.

    One that the mail server refuses for good is dead at once.

    Raises MailTemporary or Unavailable: then it is to be tried again.
    """
    with reading() as connection:
        mail = connection.execute(_READ, {"mail_id": mail_id}).one_or_none()
    if mail is None:
        return
    addressee = _addressee(mail)
    if addressee is None:
        with transaction() as session:
            session.execute(_DELETE, {"mail_id": mail_id})
        return
    message = _written(mail, addressee, settings)
    try:
        transport.send(settings, message)
    except MailRefused:
        give_up(mail_id)
        return
    _settle(mail_id, State.SENT)


def give_up(mail_id: UUID) -> None:
    """Note that a mail couldn't be sent, after its last try.

    Raises Unavailable.
    """
    _settle(mail_id, State.DEAD)
    log.error("mail_dead", mail_id=str(mail_id))


def _settle(mail_id: UUID, state: State) -> None:
    with transaction() as session:
        session.execute(_CHANGE.values(state=state, settled_at=clock.now()), {"mail_id": mail_id})


def _addressee(mail: MailRow) -> Addressee | None:
    """Return whom to write to; None when there is nobody, or nothing to say any more."""
    kind = Kind(mail.kind)
    if mail.used_at is not None:
        return None  # Its link was closed meanwhile, or used from a copy of it.
    known_by_id = mail.user_id is not None
    user = (
        users.get_credentials(mail.user_id) if known_by_id else users.find_credentials(mail.email)
    )
    if kind == Kind.SIGN_UP:
        if user is None:
            return Addressee(kind=kind, email=mail.email, name=mail.facts["name"], user_id=None)
        kind = Kind.KNOWN
    if user is None or not _is_there(user, kind):
        return None
    if kind == Kind.VERIFY and user.email_verified:
        return None
    if kind == Kind.CHANGE and _is_void(mail):
        return None
    # Somebody found by an address hears at the spelling that is theirs.
    email = mail.email if known_by_id and mail.email else user.email
    return Addressee(kind=kind, email=email, name=user.name, user_id=user.id)


def _is_void(mail: MailRow) -> bool:
    """Tell whether a change of address mustn't be offered any more.

    Somebody has the new one, maybe since a moment ago: they needn't hear of it, and who asked
    mustn't. Or the mail comes so late that the old one can't take it back any more.
    """
    is_late = clock.now() > mail.created_at + LIFETIMES[Kind.CHANGE_NOTICE]
    return is_late or users.find_credentials(mail.email) is not None


def _is_there(user: UserRow, kind: Kind) -> bool:
    return user.status not in GONE or (kind in _FAREWELLS and user.status == Status.DELETING)


def _written(mail: MailRow, addressee: Addressee, settings: Settings) -> Message:
    """Write the mail; from now on its token, if it has one, is good for its time.

    The row remembers where it went: the token proves that address and no later one.
    """
    lifetime = LIFETIMES.get(addressee.kind)
    values: dict[str, Any] = {
        "user_id": addressee.user_id,
        "email": addressee.email,
        "email_key": email_key(addressee.email),
        "expires_at": None if lifetime is None else clock.now() + lifetime,
    }
    if addressee.kind == Kind.KNOWN:
        # Somebody else's attempt to sign up is none of the user's data.
        values["facts"] = {}
    with transaction() as session:
        session.execute(_CHANGE.values(**values), {"mail_id": mail.id})
    rendered = messages.render(
        addressee.kind,
        name=addressee.name,
        public_url=settings.public_url,
        token=None if lifetime is None else tokens.make(mail.id, addressee.kind),
        facts=mail.facts,
    )
    return Message(
        mail_id=mail.id,
        to=addressee.email,
        name=addressee.name,
        subject=rendered.subject,
        text=rendered.text,
        html=rendered.html,
    )
