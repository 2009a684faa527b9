"""Use cases of holds: set credits aside, take them later or let them go."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import RowMapping, select, tuple_
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.credits import holding
from app.credits.errors import LedgerFrozen, OthersHold
from app.credits.holding import Hold
from app.credits.models import holds
from app.credits.values import HOLD_LIFETIME, HoldStatus
from app.platform import clock, ids
from app.platform.actor import Actor
from app.platform.db import reading, transaction
from app.platform.errors import Forbidden, InvalidState, NotFound
from app.platform.logging import get_logger
from app.users import administration
from app.users import service as users

MAY_TAKE: Final = "credits:charge"
MAY_SEE: Final = "credits:read"
EXPIRED_AT_ONCE: Final = 500
log = get_logger(__name__)

_HOLDS = select(
    holds.c.id,
    holds.c.account_id.label("user_id"),
    holds.c.amount,
    holds.c.captured,
    holds.c.status,
    holds.c.expires_at,
    holds.c.memo,
    holds.c.created_at,
    holds.c.placed_by,
)
_position = tuple_(holds.c.created_at, holds.c.id)


def place(
    session: Session,
    *,
    actor: Actor,
    amount: int,
    user_id: UUID | None,
    expires_in: timedelta = HOLD_LIFETIME,
    memo: str | None,
) -> Hold:
    """Set credits of the actor aside, or of another user, in the caller's transaction.

    Raises Forbidden, StrongerUser, PayerNotFound or InsufficientCredits.
    """
    owner = whose(actor=actor, user_id=user_id)
    if owner != actor.user_id:
        administration.refuse_stronger(actor, users.roles(session, owner))
    hold_id = ids.new()
    _record(session, Action.HOLD_PLACED, hold_id, actor=actor, user_id=owner, amount=amount)
    return holding.place(
        session,
        hold_id=hold_id,
        user_id=owner,
        amount=amount,
        actor=actor,
        memo=memo,
        expires_at=clock.now() + expires_in,
    )


def whose(*, actor: Actor, user_id: UUID | None) -> UUID:
    """Return whose credits the actor would set aside: of that user, or of themself (None).

    Raises Forbidden for another's without `credits:charge`.
    """
    owner = user_id or actor.user_id
    if owner is None or (owner != actor.user_id and not actor.may(MAY_TAKE)):
        raise Forbidden
    return owner


def capture(session: Session, *, actor: Actor, hold_id: UUID, amount: int | None) -> Hold:
    """Take a hold's credits (None: all of them) for revenue, and free the rest.

    Raises NotFound, OthersHold, StrongerUser, HoldEnded, Invalid (it holds less) or PayerNotFound.
    """
    found = _to_end(session, actor=actor, hold_id=hold_id)
    transfer_id = ids.new()
    _record(
        session,
        Action.HOLD_CAPTURED,
        hold_id,
        actor=actor,
        user_id=found["user_id"],
        amount=found["amount"] if amount is None else amount,
        transfer_id=str(transfer_id),
    )
    return holding.capture(
        session, hold_id=hold_id, amount=amount, transfer_id=transfer_id, actor=actor
    )


def release(session: Session, *, actor: Actor, hold_id: UUID) -> Hold:
    """Let go what a hold sets aside.

    Raises NotFound, OthersHold, StrongerUser or HoldEnded.
    """
    found = _to_end(session, actor=actor, hold_id=hold_id)
    _record(
        session,
        Action.HOLD_RELEASED,
        hold_id,
        actor=actor,
        user_id=found["user_id"],
        amount=found["amount"],
    )
    return holding.release(session, hold_id=hold_id)


def release_all(session: Session, *, actor: Actor, user_id: UUID) -> None:
    """Let go everything that is set aside of a user who gives up what is left.

    All of it is locked before the first release locks the account: whoever ends one of them at the
    same time has locked that one, and waits for the account.

    Raises HoldEnded when the time of one is over between the look and the release.
    """
    locked = holding.lock_open(session, user_id=user_id)
    query = _HOLDS.where(holds.c.id.in_(locked)).order_by(holds.c.id)
    for found in session.execute(query).mappings().all():
        _end(session, found, actor=actor)


def expire_due() -> int:
    """Free what is set aside beyond its time, and return how many holds that were.

    Each in a transaction of its own; one that somebody ends meanwhile is passed over. One that
    can't be freed keeps no other from it, and is tried again by the next call; the fault is raised
    in the end.

    Raises LedgerFrozen at once, Unavailable, and whatever a mistake of ours raises.
    """
    actor, expired, after, fault = Actor(kind="system"), 0, None, None
    while True:
        query = _HOLDS.where(holds.c.status == HoldStatus.HELD, holds.c.expires_at <= clock.now())
        if after is not None:
            query = query.where(tuple_(holds.c.expires_at, holds.c.id) > after)
        query = query.order_by(holds.c.expires_at, holds.c.id).limit(EXPIRED_AT_ONCE)
        with reading() as connection:
            due = connection.execute(query).mappings().all()
        for found in due:
            try:
                with transaction() as session:
                    _end(session, found, actor=actor)
                expired += 1
            except InvalidState:
                continue
            except LedgerFrozen:
                raise
            except Exception as error:
                log.error("hold_expiry_failed", hold_id=str(found["id"]), exc_info=error)
                fault = error
        if len(due) < EXPIRED_AT_ONCE:
            break
        after = (due[-1]["expires_at"], due[-1]["id"])
    if fault is not None:
        raise fault
    return expired


def look_for_hold(*, actor: Actor, hold_id: UUID) -> RowMapping:
    """Return a hold to the account's owner, to who placed it and to staff.

    Raises NotFound, for strangers as for ids that don't exist.
    """
    found = _find(hold_id)
    if actor.user_id not in (found["user_id"], found["placed_by"]) and not actor.may(MAY_SEE):
        raise NotFound
    return found


def look_to_end(*, actor: Actor, hold_id: UUID) -> None:
    """Make sure that the actor may end a hold, before the request is read any further.

    Raises NotFound or OthersHold.
    """
    _refuse_to_end(_find(hold_id), actor=actor)


def list_holds(
    *,
    actor: Actor,
    status: str | None,
    user_id: UUID | None,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> Sequence[RowMapping]:
    """Return the holds on the actor's account, newest first, or all of them for staff."""
    query = _HOLDS
    if not actor.may(MAY_SEE):
        query = query.where(holds.c.account_id == actor.user_id)
    if status is not None:
        query = query.where(holds.c.status == status)
    if user_id is not None:
        query = query.where(holds.c.account_id == user_id)
    if after is not None:
        query = query.where(_position < after)
    query = query.order_by(holds.c.created_at.desc(), holds.c.id.desc()).limit(limit).offset(offset)
    with reading() as connection:
        return connection.execute(query).mappings().all()


def _find(hold_id: UUID) -> RowMapping:
    """Return a hold, whosever it is.

    Raises NotFound.
    """
    with reading() as connection:
        found = connection.execute(_HOLDS.where(holds.c.id == hold_id)).mappings().one_or_none()
    if found is None:
        raise NotFound
    return found


def _refuse_to_end(found: RowMapping, *, actor: Actor) -> None:
    """Let nobody end a hold but who placed it, and who may take credits anyway.

    Raises NotFound, or OthersHold for the account's owner, who sees it.
    """
    if found["placed_by"] != actor.user_id and not actor.may(MAY_TAKE):
        raise OthersHold if found["user_id"] == actor.user_id else NotFound


def _to_end(session: Session, *, actor: Actor, hold_id: UUID) -> RowMapping:
    """Return a hold that the actor may end. What is read of it here never changes.

    Raises NotFound, OthersHold or StrongerUser.
    """
    found = session.execute(_HOLDS.where(holds.c.id == hold_id)).mappings().one_or_none()
    if found is None:
        raise NotFound
    _refuse_to_end(found, actor=actor)
    if found["placed_by"] != actor.user_id:
        administration.refuse_stronger(actor, users.roles(session, found["user_id"]))
    return found


def _end(session: Session, found: RowMapping, *, actor: Actor) -> None:
    over = found["expires_at"] <= clock.now()
    _record(
        session,
        Action.HOLD_EXPIRED if over else Action.HOLD_RELEASED,
        found["id"],
        actor=actor,
        user_id=found["user_id"],
        amount=found["amount"],
    )
    holding.release(
        session,
        hold_id=found["id"],
        status=HoldStatus.EXPIRED if over else HoldStatus.RELEASED,
    )


def _record(
    session: Session,
    action: Action,
    hold_id: UUID,
    *,
    actor: Actor,
    user_id: UUID,
    amount: int,
    **more: str,
) -> None:
    """Record what happens to a hold, with the user as the subject: it shows in their history."""
    audit.record(
        session,
        action,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details={"hold_id": str(hold_id), "amount": amount, **more},
    )
