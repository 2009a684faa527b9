"""Use cases of suspension: a suspended user can't sign in, and is signed out everywhere at once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import sessions
from app.auth.errors import SelfSuspension
from app.auth.values import EndReason
from app.platform import clock
from app.platform.actor import Actor
from app.platform.errors import Invalid, InvalidState
from app.users import administration
from app.users.models import UserRow
from app.users.values import Status

# Longer than anybody's life is for good. It also keeps times out that Python can't read again.
LONGEST = timedelta(days=36_500)


def suspend(
    session: Session, *, actor: Actor, user_id: UUID, reason: str, until: datetime | None
) -> UserRow:
    """Suspend a user and end all login sessions, in the caller's transaction; return the user.

    Without `until` it lasts until somebody reinstates the user. A user who is suspended already
    gets the new reason and time.

    Raises SelfSuspension, NotFound, StrongerUser, Invalid, InvalidState or LastAdmin.
    """
    if actor.user_id == user_id:
        raise SelfSuspension
    user = administration.hold_for_staff(session, actor=actor, user_id=user_id)
    if user.status == Status.DELETING:
        raise InvalidState("This user is being deleted.")
    now = clock.now()
    # Here and not where the body is read: a repeated request gets its answer after that time too.
    if until is not None and not now < until <= now + LONGEST:
        raise Invalid(details={"until": ["Must be in the future, within 100 years."]})
    suspended = administration.set_suspended(session, user_id=user_id, until=until)
    audit.record(
        session,
        Action.USER_SUSPENDED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"until": None if until is None else until.astimezone(UTC).isoformat()},
        personal={"reason": reason},
    )
    sessions.end_all(session, actor=actor, user_id=user_id, reason=EndReason.SUSPENDED)
    return suspended


def reinstate(session: Session, *, actor: Actor, user_id: UUID) -> UserRow:
    """End a suspension before its time, in the caller's transaction, and return the user.

    Raises NotFound, StrongerUser or InvalidState.
    """
    user = administration.hold_for_staff(session, actor=actor, user_id=user_id)
    if user.status != Status.SUSPENDED:
        raise InvalidState("This user isn't suspended.")
    reinstated = administration.set_active(session, user_id=user_id)
    audit.record(
        session,
        Action.USER_REINSTATED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
    )
    return reinstated
