"""Use cases of e-mail addresses: proving that one is one's own, and taking a change back."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import api_keys, recovery, throttling
from app.auth.values import EndReason
from app.mail import service as mail
from app.mail.errors import InvalidToken
from app.mail.models import MailRow
from app.mail.values import Kind
from app.platform.actor import Actor
from app.platform.db import transaction
from app.users import administration
from app.users import service as users
from app.users.errors import EmailTaken
from app.users.models import UserRow
from app.users.values import Status

PROOFS: Final = (Kind.VERIFY, Kind.CHANGE, Kind.SIGN_UP)
UNDOS: Final = (Kind.CHANGE_NOTICE, Kind.DELETION)


def count_resend(*, actor: Actor) -> None:
    """Count a mail that is to be sent again, before the transaction that asks for it.

    Raises TooManyRequests.
    """
    throttling.mail_to(actor.user.email, Kind.VERIFY, address=actor.address)


def resend(session: Session, *, actor: Actor) -> None:
    """Have the mail sent again that verifies the actor's address, in the caller's transaction.

    Nothing is sent if it is verified.
    """
    mail.request(session, Kind.VERIFY, user_id=actor.user_id)


def verify(*, token: str, actor: Actor) -> None:
    """Take a mail's token as proof that its address is its reader's.

    By that a new user's address is verified, another address takes the place of the one before, or
    a private sign-up makes the user.

    Raises InvalidToken or Unavailable.
    """
    sent = mail.look(token, kinds=PROOFS)
    try:
        with transaction() as session:
            if sent.kind == Kind.SIGN_UP:
                _sign_up(session, mail.use(session, token, kinds=PROOFS), actor)
                return
            # The user's row first: of two tokens at once each would otherwise wait for the other's.
            user = _held(session, sent, but=Status.DELETING)
            mail.use(session, token, kinds=PROOFS)
            if sent.kind == Kind.CHANGE:
                _change(session, user, sent, actor)
            else:
                _verify(session, user, sent, actor)
    except EmailTaken:
        # Somebody else was faster; that they exist is nobody's business.
        raise InvalidToken from None


def undo(*, token: str, actor: Actor) -> None:
    """Take back what a mail said: a change of address, or the deletion of the user.

    Whoever changed the address may know the password: all login sessions and API keys end, and
    there is no sign-in before a new one is set through the address that is back.

    Raises InvalidToken or Unavailable.
    """
    sent = mail.look(token, kinds=UNDOS)
    try:
        with transaction() as session:
            user = _held(session, sent)
            mail.use(session, token, kinds=UNDOS)
            owner = replace(actor, kind="user", user_id=user.id)
            if sent.kind == Kind.DELETION:
                _undo_deletion(session, user, sent, owner)
            else:
                _undo_change(session, user, sent, owner)
    except EmailTaken:
        # Only an operator gives away an address that is kept.
        raise InvalidToken from None


def _sign_up(session: Session, used: MailRow, actor: Actor) -> None:
    if mail.is_kept(session, used.email):
        raise InvalidToken
    user = users.create_user(
        session,
        email=used.email,
        name=used.facts["name"],
        password_hash=used.facts["password_hash"],
        roles=(),
        actor=actor,
        verified=True,
    )
    mail.hand_over(session, used.id, user_id=user.id)


def _verify(session: Session, user: UserRow, used: MailRow, actor: Actor) -> None:
    if user.email_key != used.email_key:
        raise InvalidToken
    if user.email_verified:
        return
    administration.change(session, user.id, email_verified=True)
    _record(session, Action.EMAIL_VERIFIED, user, actor)


def _change(session: Session, user: UserRow, used: MailRow, actor: Actor) -> None:
    if users.is_taken(session, used.email) or mail.is_kept(session, used.email, but=user.id):
        raise InvalidToken
    # The undo link of the address before goes on; tokens that were sent there don't.
    mail.close(session, user_id=user.id, kinds=(*recovery.RESETS, Kind.VERIFY, Kind.CHANGE))
    administration.change(session, user.id, email=used.email, email_verified=True)
    _record(
        session,
        Action.EMAIL_CHANGED,
        user,
        actor,
        personal={"before": user.email, "after": used.email},
    )


def _undo_change(session: Session, user: UserRow, used: MailRow, owner: Actor) -> None:
    # Above all the undo links of later changes, which somebody else may hold.
    mail.close(
        session,
        user_id=user.id,
        kinds=(*recovery.RESETS, Kind.VERIFY, Kind.CHANGE, Kind.CHANGE_NOTICE),
    )
    if user.status == Status.DELETING:
        # Whoever changed the address may also have had the user deleted, and got that mail.
        facts = mail.withdraw(session, user_id=user.id, kind=Kind.DELETION)
        _revive(session, user, facts, owner)
    _record(
        session,
        Action.EMAIL_CHANGE_REVERTED,
        user,
        owner,
        personal={"before": user.email, "after": used.email},
    )
    # Whoever made the change may have made keys as well.
    api_keys.end_all(session, actor=owner, user_id=user.id)
    recovery.force_reset(session, actor=owner, user_id=user.id, reason=EndReason.CREDENTIAL)
    # Last, because a new address locks the row against all that refers to it.
    if user.email_key != used.email_key:
        if users.is_taken(session, used.email):
            raise InvalidToken
        administration.change(session, user.id, email=used.email, email_verified=True)


def _undo_deletion(session: Session, user: UserRow, used: MailRow, owner: Actor) -> None:
    if user.status != Status.DELETING:
        raise InvalidToken
    _revive(session, user, used.facts, owner)


def _revive(session: Session, user: UserRow, facts: Mapping[str, str], owner: Actor) -> None:
    """End the deletion of a user, who is then what they were before."""
    if facts.get("was") == Status.SUSPENDED:
        until = facts.get("until")
        administration.set_suspended(
            session, user_id=user.id, until=datetime.fromisoformat(until) if until else None
        )
    else:
        administration.set_active(session, user_id=user.id)
    _record(session, Action.DELETION_REVERTED, user, owner)


def _held(session: Session, sent: MailRow, *, but: Status = Status.ERASED) -> UserRow:
    """Lock the row of the mail's user, who must not be erased, nor in the other status.

    Raises InvalidToken.
    """
    user = users.hold_user(session, sent.user_id)
    if user is None or user.status in (Status.ERASED, but):
        raise InvalidToken
    return user


def _record(
    session: Session,
    action: Action,
    user: UserRow,
    actor: Actor,
    *,
    personal: dict[str, Any] | None = None,
) -> None:
    audit.record(
        session,
        action,
        actor=replace(actor, kind="user", user_id=user.id),
        subject_type="user",
        subject_id=user.id,
        personal=personal,
    )
