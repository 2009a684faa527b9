"""Use cases of users: register, look at one or many, check who signs in."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, not_, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.errors import NotFound
from app.platform.name_search import contains, name_grams
from app.users import passwords
from app.users.errors import EmailTaken
from app.users.models import UserRow, users
from app.users.queries import HOLD, SHOWN, SUSPENSION_IS_OVER
from app.users.values import (
    USER_ROLE,
    Status,
    all_roles,
    email_key,
)

# Not by letting the constraint fail: the server would log the address and the hash with the error.
_INSERT = insert(users).on_conflict_do_nothing(constraint="uq_users_email_key").returning(*SHOWN)
_ONE = select(*SHOWN).where(users.c.id == bindparam("user_id"))
_LIST = (
    select(*SHOWN)
    .order_by(users.c.created_at.desc(), users.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_position = tuple_(users.c.created_at, users.c.id)
_credentials = select(
    users.c.id,
    users.c.email,
    users.c.email_key,
    users.c.email_verified,
    users.c.name,
    users.c.password_hash,
    users.c.reset_required,
    users.c.password_changed_at,
    users.c.status,
    users.c.suspended_until,
    users.c.roles,
    users.c.created_at,
)
_CREDENTIALS = _credentials.where(users.c.email_key == bindparam("email_key"))
_OWN_CREDENTIALS = _credentials.where(users.c.id == bindparam("user_id"))


def create_admin(*, email: str, name: str, password: str, actor: Actor) -> UserRow:
    """Create an administrator from checked values, and return the user.

    Raises WeakPassword, EmailTaken or Unavailable.
    """
    password_hash = passwords.hash_new_password(password, email=email, name=name)
    with transaction() as session:
        return create_user(
            session,
            email=email,
            name=name,
            password_hash=password_hash,
            roles=("admin",),
            actor=actor,
            # Whoever runs commands on the machine vouches for it; there may be no mail yet.
            verified=True,
        )


def create_user(
    session: Session,
    *,
    email: str,
    name: str,
    password_hash: str,
    roles: Iterable[str],
    actor: Actor,
    verified: bool = False,
) -> UserRow:
    """Insert a user and its audit event, in the caller's transaction, and return the user.

    `roles` are those beyond `user`; `verified` says that the address is known to be the user's.
    Somebody who isn't signed in acts as the new user.

    Raises EmailTaken.
    """
    user_id, now, stored_roles = ids.new(), clock.now(), sorted(roles)
    values = {
        "id": user_id,
        "email": email,
        "email_key": email_key(email),
        "email_verified": verified,
        "name": name,
        "name_grams": name_grams(name),
        "password_hash": password_hash,
        "reset_required": False,
        "roles": stored_roles,
        "status": Status.ACTIVE,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    user = session.execute(_INSERT, values).one_or_none()
    if user is None:
        raise EmailTaken
    if actor.kind == "anonymous":
        actor = replace(actor, kind="user", user_id=user_id)
    audit.record(
        session,
        Action.ADMIN_CREATED if "admin" in stored_roles else Action.USER_CREATED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"roles": stored_roles},
        personal={"email": email, "name": name},
    )
    return user


def get_user(user_id: UUID | None, *, actor: Actor) -> UserRow:
    """Return a user, to that user and to those with `users:read`.

    Raises NotFound or Unavailable.
    """
    if user_id != actor.user_id and not actor.may("users:read"):
        raise NotFound
    if user_id == actor.user_id and actor.user is not None:
        own: UserRow = actor.user
        return own
    with reading() as connection:
        user = connection.execute(_ONE, {"user_id": user_id}).one_or_none()
    if user is None:
        raise NotFound
    return user


def list_users(
    *,
    name: str | None = None,
    email: str | None = None,
    role: str | None = None,
    status: str | None = None,
    ids: Sequence[UUID] | None = None,
    created_after: datetime | None = None,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> Sequence[UserRow]:
    """Return the users that match every filter given, newest first; the time is exclusive.

    `name` matches a part of the name in any case.

    Raises Unavailable.
    """
    statement = _LIST
    if name is not None:
        statement = statement.where(contains(name, name=users.c.name, grams=users.c.name_grams))
    if email is not None:
        statement = statement.where(users.c.email_key == email_key(email))
    if role is not None and role != USER_ROLE:
        statement = statement.where(users.c.roles.contains([role]))
    if status == Status.ACTIVE:
        statement = statement.where(or_(users.c.status == status, SUSPENSION_IS_OVER))
    elif status is not None:
        statement = statement.where(users.c.status == status, not_(SUSPENSION_IS_OVER))
    if ids is not None:
        statement = statement.where(users.c.id.in_(ids))
    if created_after is not None:
        statement = statement.where(users.c.created_at > created_after)
    if after is not None:
        statement = statement.where(_position < after)
    with reading() as connection:
        return connection.execute(statement, {"limit": limit, "offset": offset}).all()


def roles(session: Session, user_id: UUID) -> frozenset[str]:
    """Return a user's roles of this moment; for nobody the one that everybody has."""
    return all_roles(session.scalar(select(users.c.roles).where(users.c.id == user_id)) or ())


def find_credentials(email: str) -> UserRow | None:
    """Return id, password hash, status and roles of the user with this address, or None.

    Raises Unavailable.
    """
    with reading() as connection:
        return connection.execute(_CREDENTIALS, {"email_key": email_key(email)}).one_or_none()


def is_taken(session: Session, email: str) -> bool:
    """Tell whether somebody has this address, maybe in another spelling."""
    return session.execute(_CREDENTIALS, {"email_key": email_key(email)}).first() is not None


def get_credentials(user_id: UUID | None) -> UserRow:
    """Return the same of a user who is known by id: users stay in their table, erased or not.

    Raises Unavailable.
    """
    with reading() as connection:
        return connection.execute(_OWN_CREDENTIALS, {"user_id": user_id}).one()


def hold_user(session: Session, user_id: UUID | None) -> UserRow | None:
    """Lock a user's row until the caller's transaction ends, and return the user as shown.

    No login session begins meanwhile.
    """
    return session.execute(HOLD, {"user_id": user_id}).one_or_none()


def hold_credentials(
    session: Session, *, read: UserRow, new_hash: str | None, changed_at: datetime | None = None
) -> bool:
    """Lock the user's row if its credentials are as read before; put in a new hash if given.

    With `changed_at` it is the hash of another password, chosen at that moment.

    A change of password and a suspension wait for the caller's transaction, or are seen here: no
    login session can begin after them by what was read before.
    """
    same = (
        users.c.id == read.id,
        users.c.password_hash == read.password_hash,
        users.c.status == read.status,
        users.c.reset_required == read.reset_required,
        # One suspension in another's place: the status is the same, and its time isn't over.
        users.c.suspended_until.is_not_distinct_from(read.suspended_until),
    )
    if new_hash is None:
        locked = session.execute(select(users.c.id).where(*same).with_for_update(read=True))
        return locked.first() is not None
    values: dict[str, Any] = {"password_hash": new_hash}
    if changed_at is not None:
        values |= {"password_changed_at": changed_at, "reset_required": False}
    changed = session.execute(update(users).where(*same).values(values).returning(users.c.id))
    return changed.first() is not None


def set_credentials(
    session: Session, user_id: UUID, *, new_hash: str, changed_at: datetime
) -> None:
    """Put another password's hash in, whatever was there; the caller holds the user's row."""
    session.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(password_hash=new_hash, password_changed_at=changed_at, reset_required=False)
    )


def require_reset(session: Session, user_id: UUID) -> None:
    """Note that a user must set another password before signing in; the caller holds the row."""
    session.execute(update(users).where(users.c.id == user_id).values(reset_required=True))
