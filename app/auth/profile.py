"""Use cases of changing who a user is: name and address, by the user or by staff.

A user's new address counts once its mail is read; staff's counts at once, and isn't verified. The
address before is told either way, with a link that takes the change back.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import notices, recovery, registration, sessions, throttling
from app.mail import service as mail
from app.mail.values import Kind
from app.platform.actor import Actor
from app.platform.errors import Forbidden, InvalidState, PreconditionFailed, Unauthenticated
from app.users import administration
from app.users import service as users
from app.users.errors import EmailTaken
from app.users.models import UserRow
from app.users.values import Status, email_key


def prepare(*, actor: Actor, email: str | None) -> None:
    """Count the mail that a user's change of address sends, before the change's transaction.

    Raises Forbidden (an API key doesn't change addresses), TooManyRequests or Unavailable.
    """
    if email is None:
        return
    if actor.kind == "api_key":
        # Whoever has the address can have the password: a key that leaks must not be enough.
        raise Forbidden("An API key can't change the email address.")
    if email_key(email) != email_key(actor.user.email):
        throttling.mail_to(email, Kind.CHANGE, address=actor.address)


def change_own(
    session: Session,
    *,
    actor: Actor,
    versions: Collection[int] | None,
    name: str | None = None,
    email: str | None = None,
) -> UserRow:
    """Change the actor's name, and ask to change the address, in the caller's transaction.

    `versions` are those that the caller knows of; None: any. Returns the user as shown.

    Raises Unauthenticated, PreconditionFailed or EmailTaken (not in private).
    """
    user = users.hold_user(session, actor.user_id)
    if user is None or user.status != Status.ACTIVE:
        raise Unauthenticated
    if actor.kind == "user":
        # Whoever was signed out while we waited for the row changes nothing.
        sessions.owner_of_current(session, actor)
    _check_version(user, versions)
    is_another = email is not None and email_key(email) != user.email_key
    shown = _write(session, actor, user, name=name, email=None if is_another else email)
    if email is None or not is_another:
        return shown
    if not registration.is_private():
        _refuse_taken(session, user, email)
    mail.close(session, user_id=user.id, kinds=(Kind.CHANGE,))
    mail.request(session, Kind.CHANGE, user_id=user.id, email=email)
    notices.change_of_address(session, user=user)
    audit.record(
        session,
        Action.EMAIL_CHANGE_REQUESTED,
        actor=actor,
        subject_type="user",
        subject_id=user.id,
        personal={"before": user.email, "after": email},
    )
    return shown


def change_for_staff(
    session: Session,
    *,
    actor: Actor,
    user_id: UUID,
    versions: Collection[int] | None,
    name: str | None = None,
    email: str | None = None,
) -> UserRow:
    """Change a user's name and address at once, in the caller's transaction; return the user.

    `versions` are those that the caller knows of; None: any. Neither an API key nor staff about
    themself changes an address in this way.

    Raises NotFound, StrongerUser, InvalidState, PreconditionFailed, Forbidden or EmailTaken.
    """
    user = administration.hold_for_staff(session, actor=actor, user_id=user_id)
    if user.status == Status.DELETING:
        raise InvalidState("This user is being deleted.")
    _check_version(user, versions)
    is_another = email is not None and email_key(email) != user.email_key
    if email is not None and is_another:
        if actor.kind == "api_key" or actor.user_id == user_id:
            # Without the mail to the new address, a key or an open screen would be enough.
            raise Forbidden(
                "Change your own address by PATCH /users/me, signed in with a password."
            )
        _refuse_taken(session, user, email)
        mail.close(session, user_id=user.id, kinds=(*recovery.RESETS, Kind.VERIFY, Kind.CHANGE))
        notices.change_of_address(session, user=user)
        mail.request(session, Kind.VERIFY, user_id=user.id, email=email)
    return _write(session, actor, user, name=name, email=email, is_another=is_another)


def _check_version(user: UserRow, versions: Collection[int] | None) -> None:
    if versions is not None and user.version not in versions:
        raise PreconditionFailed


def _refuse_taken(session: Session, user: UserRow, email: str) -> None:
    if users.is_taken(session, email) or mail.is_kept(session, email, but=user.id):
        raise EmailTaken


def _write(
    session: Session,
    actor: Actor,
    user: UserRow,
    *,
    name: str | None,
    email: str | None,
    is_another: bool = False,
) -> UserRow:
    """Write what differs from the held row, and audit it with what was there before."""
    wanted = {"name": name, "email": email}
    changed = {
        field: value
        for field, value in wanted.items()
        if value is not None and value != getattr(user, field)
    }
    if not changed:
        return user
    before = {field: getattr(user, field) for field in changed}
    verified = {"email_verified": False} if is_another else {}
    shown = administration.change(session, user.id, **changed, **verified)
    audit.record(
        session,
        Action.USER_CHANGED,
        actor=actor,
        subject_type="user",
        subject_id=user.id,
        details={"fields": sorted(changed)},
        personal={"before": before, "after": changed},
    )
    return shown
