"""Use cases of mails: ask for one, use the token in one, try dead ones again."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.mail import tokens
from app.mail.errors import InvalidToken
from app.mail.models import MailRow, mails
from app.mail.values import Kind, State
from app.platform import clock, ids, outbox
from app.platform.db import reading, transaction
from app.platform.gauges import Gauge
from app.users.values import email_key

# What the outbox calls a mail that wants to be sent.
TOPIC: Final = "mail.requested"

_INSERT = insert(mails)
_GOOD = (
    mails.c.id == bindparam("mail_id"),
    mails.c.kind == bindparam("of_kind"),
    mails.c.used_at.is_(None),
    mails.c.expires_at > bindparam("now"),
)
_LOOK = select(mails).where(*_GOOD)
_USE = update(mails).where(*_GOOD).values(used_at=bindparam("now")).returning(mails)
_WITHDRAW = (
    update(mails)
    .where(
        mails.c.user_id == bindparam("of_user"),
        mails.c.kind == bindparam("of_kind"),
        mails.c.used_at.is_(None),
    )
    .values(used_at=bindparam("now"))
    .returning(mails.c.facts)
)
_KEPT = select(
    select(mails.c.id)
    .where(
        mails.c.email_key == bindparam("email_key"),
        mails.c.kind == Kind.CHANGE_NOTICE,
        mails.c.used_at.is_(None),
        or_(mails.c.expires_at.is_(None), mails.c.expires_at > bindparam("now")),
        mails.c.user_id.is_distinct_from(bindparam("but")),
    )
    .exists()
)
_DEAD = select(mails.c.id, mails.c.kind, mails.c.settled_at).where(mails.c.state == State.DEAD)
_WAITING = select(func.count().label("number"), func.min(mails.c.created_at).label("since")).where(
    mails.c.state == State.WAITING
)
_COUNT_DEAD = select(func.count()).where(mails.c.state == State.DEAD)
_REVIVE = (
    update(mails)
    .where(mails.c.state == State.DEAD)
    .values(state=State.WAITING, settled_at=None)
    .returning(mails.c.id)
)


def request(
    session: Session,
    kind: Kind,
    *,
    user_id: UUID | None = None,
    email: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> UUID:
    """Ask for a mail, in the caller's transaction, and return its id; a worker sends it.

    To the user's address, or to `email`. Without a user the worker looks who has that address, so
    that this takes the same statements whether anybody does.
    """
    mail_id = ids.new()
    session.execute(
        _INSERT,
        {
            "id": mail_id,
            "kind": kind,
            "user_id": user_id,
            "email": email,
            "email_key": None if email is None else email_key(email),
            "facts": dict(facts or {}),
            "state": State.WAITING,
            "created_at": clock.now(),
        },
    )
    outbox.emit(session, topic=TOPIC, subject_id=mail_id)
    return mail_id


def look(token: str, *, kinds: Iterable[Kind]) -> MailRow:
    """Return the mail of a token that is good now, for what has to be done before using it.

    Raises InvalidToken or Unavailable.
    """
    with reading() as connection:
        return _only(connection.execute(_LOOK, _named(token, kinds)).one_or_none())


def use(session: Session, token: str, *, kinds: Iterable[Kind]) -> MailRow:
    """Use a token up, in the caller's transaction, and return its mail: of many at once, one does.

    Raises InvalidToken.
    """
    return _only(session.execute(_USE, _named(token, kinds)).one_or_none())


def close(session: Session, *, user_id: UUID, kinds: Iterable[Kind]) -> None:
    """Let no token that a user was sent for these purposes be good any more."""
    session.execute(
        update(mails)
        .where(mails.c.user_id == user_id, mails.c.kind.in_(list(kinds)), mails.c.used_at.is_(None))
        .values(used_at=clock.now())
    )


def withdraw(session: Session, *, user_id: UUID, kind: Kind) -> Mapping[str, str]:
    """Use up a user's open token of a kind without having it, and return what its mail says."""
    facts = session.scalars(_WITHDRAW, {"of_user": user_id, "of_kind": kind, "now": clock.now()})
    return facts.first() or {}


def hand_over(session: Session, mail_id: UUID, *, user_id: UUID) -> None:
    """Note whose a mail is, and delete what it says, once that has become a user."""
    session.execute(update(mails).where(mails.c.id == mail_id).values(user_id=user_id, facts={}))


def is_kept(session: Session, email: str, *, but: UUID | None = None) -> bool:
    """Tell whether an address is kept for a user, other than `but`, who may still take it back.

    Otherwise whoever changed it with a stolen access token could register it, and so keep its owner
    from undoing that.
    """
    parameters = {"email_key": email_key(email), "now": clock.now(), "but": but}
    return bool(session.scalar(_KEPT, parameters))


def list_dead() -> Sequence[MailRow]:
    """Return id, kind and time of the mails that were given up, the oldest first.

    Raises Unavailable.
    """
    with reading() as connection:
        return connection.execute(_DEAD.order_by(mails.c.created_at, mails.c.id)).all()


def waiting() -> tuple[int, datetime | None]:
    """Return how many mails wait to be sent, and since when the oldest does.

    Raises Unavailable.
    """
    with reading() as connection:
        row = connection.execute(_WAITING).one()
    return row.number, row.since


def gauges() -> Sequence[Gauge]:
    """Return as a number for the metrics how many mails were given up.

    Raises Unavailable.
    """
    with reading() as connection:
        dead = connection.execute(_COUNT_DEAD).scalar_one()
    return [Gauge("mails_dead", "Mails that were given up.", dead)]


def retry(mail_id: UUID | None = None) -> int:
    """Try a dead mail again from the beginning, or all of them, and return how many there are.

    Raises Unavailable.
    """
    statement = _REVIVE if mail_id is None else _REVIVE.where(mails.c.id == mail_id)
    with transaction() as session:
        revived = session.scalars(statement).all()
        for one in revived:
            outbox.emit(session, topic=TOPIC, subject_id=one)
    return len(revived)


def _named(token: str, kinds: Iterable[Kind]) -> dict[str, Any]:
    mail_id, kind = tokens.read(token, kinds)
    return {"mail_id": mail_id, "of_kind": kind, "now": clock.now()}


def _only(mail: MailRow | None) -> MailRow:
    if mail is None:
        raise InvalidToken
    return mail
