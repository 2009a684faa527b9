"""Use cases of a lost password, and of staff who want a user to choose another one."""

from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import identities, sessions, throttling
from app.auth.values import EndReason
from app.mail import service as mail
from app.mail.errors import InvalidToken
from app.mail.values import Kind
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.errors import InvalidState
from app.users import administration, passwords
from app.users import service as users
from app.users.errors import WeakPassword
from app.users.values import GONE, Status

RESETS: Final = (Kind.RESET, Kind.FORCED_RESET)
# What a new password makes void: somebody else may have asked for it before.
VOIDED: Final = (*RESETS, Kind.CHANGE)


def forgot(*, email: str, actor: Actor) -> None:
    """Have a mail sent with which the user of this address, if there is one, sets a new password.

    Known and unknown addresses take the same statements.

    Raises TooManyRequests or Unavailable.
    """
    throttling.mail_to(email, Kind.RESET, address=actor.address)
    with transaction() as session:
        mail.request(session, Kind.RESET, email=email)
        audit.record(
            session,
            Action.RECOVERY_REQUESTED,
            # Where it came from isn't kept: nobody knows yet whose data that would be.
            actor=replace(actor, address=None, user_agent=None),
            subject_type="user",
            subject_id=None,
            details={"identity": identities.pseudonym(email)},
        )


def reset(*, token: str, new_password: str, actor: Actor) -> None:
    """Set a new, normalised password by a mail's token. All login sessions end.

    Who reads that mail has the address: it is verified with it.

    Raises InvalidToken, WeakPassword, Overloaded or Unavailable.
    """
    # Looked at first: a hash is for those who have a good token.
    read = users.get_credentials(mail.look(token, kinds=RESETS).user_id)
    if read.reset_required and passwords.verify(new_password, read.password_hash):
        raise WeakPassword("This is the password that you have. Take another one.")
    new_hash = passwords.hash_new_password(new_password, email=read.email, name=read.name)
    with transaction() as session:
        # The user's row first: of two tokens at once each would otherwise wait for the other's.
        user = users.hold_user(session, read.id)
        used = mail.use(session, token, kinds=RESETS)
        # The address may be another one by now, and its mails then belong to somebody else.
        if user is None or user.status in GONE or user.email_key != used.email_key:
            raise InvalidToken
        users.set_credentials(session, user.id, new_hash=new_hash, changed_at=clock.now())
        is_proven = not user.email_verified
        if is_proven:
            administration.change(session, user.id, email_verified=True)
        mail.close(session, user_id=user.id, kinds=VOIDED)
        owner = replace(actor, kind="user", user_id=user.id)
        for action in (Action.CREDENTIAL_RECOVERED, *[Action.EMAIL_VERIFIED] * is_proven):
            audit.record(session, action, actor=owner, subject_type="user", subject_id=user.id)
        sessions.end_all(session, actor=owner, user_id=user.id, reason=EndReason.CREDENTIAL)
        mail.request(session, Kind.CREDENTIAL_CHANGED, user_id=user.id)


def require_reset(session: Session, *, actor: Actor, user_id: UUID) -> None:
    """Let a user sign in only with a new password, in the caller's transaction; a mail says how.

    All login sessions end.

    Raises NotFound, StrongerUser or InvalidState.
    """
    user = administration.hold_for_staff(session, actor=actor, user_id=user_id)
    if user.status == Status.DELETING:
        raise InvalidState("This user is being deleted.")
    audit.record(
        session,
        Action.CREDENTIAL_RESET_REQUIRED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
    )
    force_reset(session, actor=actor, user_id=user_id, reason=EndReason.STAFF)


def force_reset(session: Session, *, actor: Actor, user_id: UUID, reason: EndReason) -> None:
    """Do what `require_reset` does, for a caller who holds the user's row and has audited why."""
    users.require_reset(session, user_id)
    mail.close(session, user_id=user_id, kinds=VOIDED)
    mail.request(session, Kind.FORCED_RESET, user_id=user_id)
    sessions.end_all(session, actor=actor, user_id=user_id, reason=reason)
