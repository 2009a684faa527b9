"""Use cases of login sessions: look at them, sign out, end one, the others, or all.

Whoever ends several holds the user's row first. A login waits for that row or is waited for, so
that none escapes which was under way.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import device_names, queries, tokens
from app.auth.errors import InvalidRefreshToken
from app.auth.values import EndReason
from app.platform import clock
from app.platform.actor import Actor
from app.platform.errors import NotFound, Unauthenticated
from app.users import administration
from app.users import service as users


def list_sessions(
    *,
    actor: Actor,
    user_id: UUID | None,
    after: tuple[Any, ...] | None,
    limit: int,
    offset: int,
) -> list[dict[str, Any]]:
    """Return a user's live login sessions, the last begun first; one may be the `current` one.

    Raises Unavailable.
    """
    rows = queries.list_live(
        user_id=user_id, now=clock.now(), after=after, limit=limit, offset=offset
    )
    return [
        {
            **row._mapping,
            "device": device_names.in_words(row.device),
            "current": row.id == actor.session_id,
        }
        for row in rows
    ]


def look_for_own(session_id: UUID, *, actor: Actor) -> None:
    """Make sure that a login session is the actor's own, before a request is read any further.

    One that has ended is found as well: the same request may have ended it, and is only repeated.

    Raises NotFound or Unavailable.
    """
    if not queries.is_of(session_id=session_id, user_id=actor.user_id):
        raise NotFound


def logout(session: Session, *, actor: Actor, refresh_token: str | None) -> None:
    """End a login session, in the caller's transaction: the refresh token's, else the actor's own.

    Its access tokens are dead on the next request. One that has ended already stays as it is.

    Raises InvalidRefreshToken or Unavailable.
    """
    session_id, user_id = actor.session_id, actor.user_id
    if refresh_token is not None:
        sent = tokens.read_refresh_token(refresh_token)
        row = queries.read_within(session, session_id=sent.session_id, now=clock.now())
        if row is None or not sent.is_genuine(bytes(row.salt), newest=row.generation):
            raise InvalidRefreshToken
        session_id, user_id = sent.session_id, row.user_id
    if session_id is None:
        return
    if queries.end(session, session_id=session_id, reason=EndReason.LOGOUT, now=clock.now()):
        owner = actor if actor.user_id else replace(actor, kind="user", user_id=user_id)
        _record_ended(session, owner, user_id, reason=EndReason.LOGOUT, session_id=str(session_id))


def end_one(session: Session, *, actor: Actor, session_id: UUID) -> None:
    """End a live login session of the actor's own, in the caller's transaction.

    Raises NotFound.
    """
    if not queries.end_live(
        session,
        session_id=session_id,
        user_id=actor.user_id,
        reason=EndReason.ENDED,
        now=clock.now(),
    ):
        raise NotFound
    _record_ended(session, actor, actor.user_id, reason=EndReason.ENDED, session_id=str(session_id))


def end_others(session: Session, *, actor: Actor) -> None:
    """End the actor's login sessions but for the current one, in the caller's transaction.

    Raises Unauthenticated.
    """
    user_id = hold_own(session, actor)
    end_all(session, actor=actor, user_id=user_id, reason=EndReason.ENDED, but=actor.session_id)


def end_own(session: Session, *, actor: Actor) -> None:
    """End all login sessions of the actor, the current one too, in the caller's transaction.

    Raises Unauthenticated.
    """
    user_id = hold_own(session, actor)
    end_all(session, actor=actor, user_id=user_id, reason=EndReason.ENDED)


def end_for_staff(session: Session, *, actor: Actor, user_id: UUID) -> None:
    """End all login sessions of a user on behalf of staff, in the caller's transaction.

    Raises NotFound or StrongerUser.
    """
    administration.hold_for_staff(session, actor=actor, user_id=user_id)
    end_all(session, actor=actor, user_id=user_id, reason=EndReason.STAFF)


def end_all(
    session: Session,
    *,
    actor: Actor,
    user_id: UUID,
    reason: EndReason,
    but: UUID | None = None,
) -> None:
    """End a user's login sessions, all `but` one if given, for a caller who holds the user's row.

    One event tells how many there were.
    """
    ended = queries.end_all(session, user_id=user_id, reason=reason, now=clock.now(), but=but)
    if ended:
        _record_ended(session, actor, user_id, reason=reason, count=ended)


def owner_of_current(session: Session, actor: Actor) -> UUID:
    """Return whose login session asks, for a caller who holds that user's row.

    Of two devices that end each other, the second one has been ended while it waited for the row.

    Raises Unauthenticated.
    """
    current = queries.read_within(session, session_id=actor.session_id, now=clock.now())
    if current is None or not current.live:
        raise Unauthenticated
    user_id: UUID = current.user_id
    return user_id


def hold_own(session: Session, actor: Actor) -> UUID:
    """Lock the row of the user whose login session asks, and return the user's id.

    Raises Unauthenticated.
    """
    users.hold_user(session, actor.user_id)
    return owner_of_current(session, actor)


def _record_ended(session: Session, actor: Actor, user_id: UUID | None, **details: Any) -> None:
    audit.record(
        session,
        Action.SESSION_ENDED,
        actor=actor,
        subject_type="user",
        subject_id=user_id,
        details=details,
    )
