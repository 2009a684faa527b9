"""Use cases of erasure: the end of a deletion, after which nobody is left who could undo it."""

import secrets
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    LargeBinary,
    bindparam,
    delete,
    func,
    literal_column,
    not_,
    or_,
    select,
    text,
    update,
)

from app.audit import service as audit
from app.audit.actions import Action
from app.audit.models import audit_events, audit_personal
from app.auth.models import api_keys, login_sessions
from app.mail.models import mails
from app.mail.values import Kind, State
from app.platform import clock
from app.platform.actor import Actor
from app.platform.db import Base, reading, transaction
from app.platform.errors import InvalidState
from app.platform.idempotency import IdempotencyKey
from app.platform.logging import get_logger
from app.platform.outbox import outbox_events
from app.support.models import exports
from app.support.values import SETTLED, UNDOABLE
from app.users import administration, passwords
from app.users.models import users
from app.users.values import Status
from app.webhooks.models import webhook_events

log = get_logger(__name__)

NAME: Final = "erased"
# Reserved for addresses that don't exist (RFC 6761, 6.4).
DOMAIN: Final = "erased.invalid"
BATCH: Final = 100

_OF: BindParameter[Any] = bindparam("of_user")
_idempotency_keys = Base.metadata.tables[IdempotencyKey.__tablename__]
_HELD = (
    select(users.c.email_key, users.c.deleting_since)
    .where(users.c.id == _OF)
    .with_for_update(key_share=True)
)
# An answer that shows a user begins with the id; the index ix_idempotency_keys_shown is of this.
_shown_id: Final = func.substring(
    _idempotency_keys.c.body, literal_column("8"), literal_column("36"), type_=LargeBinary
)
_DELETIONS: Final = (
    # What is about the user, and what the user did to others: its address is the user's.
    delete(audit_personal).where(
        or_(
            audit_personal.c.subject_id == _OF,
            audit_personal.c.event_id.in_(
                select(audit_events.c.id).where(audit_events.c.actor_id == _OF)
            ),
        )
    ),
    # With the answers that staff got, which show the user and have a version.
    delete(_idempotency_keys).where(_idempotency_keys.c.user_id == _OF),
    delete(_idempotency_keys).where(
        _idempotency_keys.c.etag.is_not(None), _shown_id == bindparam("shown", type_=LargeBinary)
    ),
    # With those that were asked for by the address alone.
    delete(mails).where(
        or_(mails.c.user_id == _OF, mails.c.email_key == bindparam("of_email_key"))
    ),
    delete(login_sessions).where(login_sessions.c.user_id == _OF),
    delete(api_keys).where(api_keys.c.user_id == _OF),
    delete(exports).where(exports.c.user_id == _OF),
    # What apps were told of the user, and are to be told still; the end of it is told below.
    # In the order in which a worker makes the one of the other: it hides none from us.
    delete(outbox_events).where(
        outbox_events.c.subject_id == _OF, outbox_events.c.data.is_not(None)
    ),
    delete(webhook_events).where(
        webhook_events.c.subject_id == _OF, func.starts_with(webhook_events.c.type, "user.")
    ),
)
_OVERWRITE = (
    update(users)
    .where(users.c.id == _OF)
    .values(
        email=bindparam("nobodys_email"),
        email_key=bindparam("nobodys_email"),
        email_verified=False,
        name=NAME,
        name_grams=[],
        password_hash=bindparam("nobodys_hash"),
        password_changed_at=None,
        reset_required=False,
        roles=[],
        status=Status.ERASED,
        deleting_since=None,
        version=users.c.version + literal_column("1"),
        updated_at=bindparam("now"),
    )
)
# Whoever was never told that they are being deleted could never take it back.
_UNTOLD = (
    select(mails.c.id)
    .where(
        mails.c.user_id == users.c.id,
        mails.c.kind == Kind.DELETION,
        mails.c.state == State.WAITING,
    )
    .exists()
)
_OLD_ENOUGH = users.c.deleting_since <= bindparam("begun_by")
_COUNT_UNTOLD = select(func.count()).select_from(users).where(_OLD_ENOUGH, _UNTOLD)
_DUE = (
    select(users.c.id, users.c.deleting_since)
    .where(_OLD_ENOUGH, not_(_UNTOLD))
    .order_by(users.c.deleting_since, users.c.id)
    .limit(BATCH)
)


def erase_due() -> int:
    """Erase everybody whose deletion can't be undone any more, and return how many.

    Those stay whom nobody could tell yet, for want of a mail server: an error line counts them.
    Each in a transaction of their own. One who can't be erased keeps nobody else from it, and is
    tried again by the next call; the fault is raised in the end.

    Raises Unavailable, and whatever a mistake of ours raises.
    """
    begun_by, actor = clock.now() - UNDOABLE, Actor(kind="system")
    erased, failed, fault = 0, set[UUID](), None
    while True:
        statement = _DUE.where(users.c.id.not_in(failed)) if failed else _DUE
        with reading() as connection:
            due = connection.execute(statement, {"begun_by": begun_by}).all()
        if not due:
            break
        for user in due:
            try:
                erased += erase(user.id, begun_by=begun_by, actor=actor)
            except Exception as error:
                log.error("erasure_failed", subject_id=str(user.id), exc_info=error)
                failed.add(user.id)
                fault = error
    with reading() as connection:
        untold = connection.execute(_COUNT_UNTOLD, {"begun_by": begun_by}).scalar_one()
    if untold:
        log.error("erasure_waits_for_mail", users=untold)
    if fault is not None:
        raise fault
    return erased


def erase_now(user_id: UUID, *, actor: Actor) -> None:
    """Erase a user who is being deleted, though it could still be undone.

    Raises NotFound, InvalidState (not being deleted, or only just) or Unavailable.
    """
    administration.look_for_user(user_id)
    if not erase(user_id, begun_by=clock.now() - SETTLED, actor=actor):
        raise InvalidState(
            "Only a user whose deletion began two minutes ago or earlier can be erased."
        )


def erase(user_id: UUID, *, begun_by: datetime, actor: Actor) -> bool:
    """Erase a user for good, in one transaction; False when their deletion didn't begin by then.

    Nothing personal is left in any table. Account, transfers, entries and audit events stay, and
    name an id that is nobody's. Once is enough: again it changes nothing.

    Raises Overloaded or Unavailable.
    """
    # Nobody knows the password, and a login takes as long as with any other address.
    nobodys_hash = passwords.hash_password(secrets.token_urlsafe(32))
    with transaction() as session:
        # The limit of a request's statements: somebody may have been here for years.
        session.execute(text("SET LOCAL statement_timeout = 0"))
        # An undo waits for the row, and then finds nobody, or is seen here.
        user = session.execute(_HELD, {"of_user": user_id}).one_or_none()
        if user is None or user.deleting_since is None or user.deleting_since > begun_by:
            return False
        parameters = {
            "of_user": user_id,
            "of_email_key": user.email_key,
            "shown": str(user_id).encode(),
            "nobodys_email": f"{user_id}@{DOMAIN}",
            "nobodys_hash": nobodys_hash,
            "now": clock.now(),
        }
        for statement in (*_DELETIONS, _OVERWRITE):
            session.execute(statement, parameters)
        audit.record(
            session,
            Action.USER_ERASED,
            actor=actor,
            subject_type="user",
            subject_id=user_id,
        )
    return True
