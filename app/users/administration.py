"""What staff does to users: the rule that protects the stronger ones, roles, and suspension."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import reading
from app.platform.errors import AppError, NotFound, PreconditionFailed
from app.platform.name_search import name_grams
from app.users.errors import EmailTaken, LastAdmin, SelfPromotion, StrongerUser
from app.users.models import UserRow, users
from app.users.queries import HOLD, SHOWN, SHOWN_VERSION
from app.users.values import (
    USER_ROLE,
    Status,
    all_roles,
    email_key,
    permissions_of,
)

_LOOK = select(users.c.id).where(
    users.c.id == bindparam("user_id"), users.c.status != Status.ERASED
)
_CHANGE_ONE = (
    update(users)
    .where(users.c.id == bindparam("user_id"))
    .values(version=SHOWN_VERSION + 1)
    .returning(*SHOWN)
)

_REFUSALS: Mapping[str, type[AppError]] = {
    "users_keep_an_admin": LastAdmin,
    "uq_users_email_key": EmailTaken,
}


def look_for_user(user_id: UUID) -> None:
    """Make sure that somebody is there, before staff's request is read any further.

    Raises NotFound (nobody there, or erased) or Unavailable.
    """
    with reading() as connection:
        if connection.execute(_LOOK, {"user_id": user_id}).first() is None:
            raise NotFound


def refuse_stronger(actor: Actor, roles: Iterable[str]) -> None:
    """Let nobody act on a user whose roles permit what the actor may not do.

    Raises StrongerUser.
    """
    # Who runs commands on the machine could change any row; only people have to keep their place.
    if actor.kind != "cli" and not permissions_of(frozenset(roles)) <= actor.permissions:
        raise StrongerUser


def hold_for_staff(session: Session, *, actor: Actor, user_id: UUID) -> UserRow:
    """Lock a user's row for staff, in the caller's transaction, and return the user as shown.

    The rule is applied to the roles under the lock: whoever was promoted a moment ago isn't acted
    on.

    Raises NotFound (nobody there, or erased) or StrongerUser.
    """
    user = session.execute(HOLD, {"user_id": user_id}).one_or_none()
    if user is None or user.status == Status.ERASED:
        raise NotFound
    refuse_stronger(actor, user.roles)
    return user


def change_roles(
    session: Session,
    *,
    actor: Actor,
    user_id: UUID,
    roles: Iterable[str],
    versions: Collection[int] | None = None,
) -> UserRow:
    """Give a user these roles and no others but `user`, in the caller's transaction.

    They count on the user's next request. `versions` are those that the caller knows of; None: any.
    The same roles again change nothing, and leave no event.

    Raises NotFound, StrongerUser, SelfPromotion, PreconditionFailed or LastAdmin.
    """
    user = hold_for_staff(session, actor=actor, user_id=user_id)
    if versions is not None and user.version not in versions:
        raise PreconditionFailed
    held, wanted = frozenset(user.roles), all_roles(roles)
    if actor.user_id == user_id and not wanted <= held:
        raise SelfPromotion
    # Nobody makes another user one on whom they couldn't act any more.
    refuse_stronger(actor, wanted)
    if wanted == held:
        return user
    stored = sorted(wanted - {USER_ROLE})
    changed = change(session, user_id, roles=stored)
    audit.record(
        session,
        Action.USER_ROLES_CHANGED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"roles": stored, "before": sorted(held - {USER_ROLE})},
    )
    return changed


def set_suspended(session: Session, *, user_id: UUID, until: datetime | None) -> UserRow:
    """Note that a user is suspended, for good if `until` is None; the caller holds the row.

    Raises LastAdmin.
    """
    return change(
        session, user_id, status=Status.SUSPENDED, suspended_until=until, deleting_since=None
    )


def set_active(session: Session, *, user_id: UUID) -> UserRow:
    """Note that a user may sign in again; the caller holds the row."""
    return change(session, user_id, status=Status.ACTIVE, suspended_until=None, deleting_since=None)


def set_deleting(session: Session, *, user_id: UUID, since: datetime) -> UserRow:
    """Note that the deletion of a user has begun; the caller holds the row.

    Raises LastAdmin.
    """
    return change(
        session, user_id, status=Status.DELETING, suspended_until=None, deleting_since=since
    )


def change(session: Session, user_id: UUID, **values: Any) -> UserRow:
    """Write these columns of a user whose row the caller holds, and return the user as shown.

    Raises LastAdmin or EmailTaken.
    """
    if "name" in values:
        values["name_grams"] = name_grams(values["name"])
    if "email" in values:
        values["email_key"] = email_key(values["email"])
    statement = _CHANGE_ONE.values(**values, updated_at=clock.now())
    try:
        return session.execute(statement, {"user_id": user_id}).one()
    except IntegrityError as error:
        cause: Any = error.orig  # The driver's own exception, which names the constraint.
        refusal = _REFUSALS.get(cause.diag.constraint_name)
        if refusal is None:
            raise
        raise refusal from error
