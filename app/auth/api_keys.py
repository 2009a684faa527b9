"""Use cases of API keys: make one, look at them, rotate, delete.

A key is made and rotated under its owner's row and by a login session that is live under that lock:
whoever was signed out while they waited leaves no key behind. No answer with a key is stored, so
none of it can be repeated.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, RowMapping
from sqlalchemy.orm import Session

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import api_key_queries, key_texts, notices, sessions
from app.auth.errors import ScopeNotHeld, TooManyApiKeys
from app.auth.models import api_keys
from app.auth.values import API_KEY_LIFE_MOST, API_KEYS_MOST
from app.platform import clock, ids
from app.platform.actor import SELF_READ, SELF_WRITE, Actor
from app.platform.db import transaction
from app.platform.errors import Invalid, InvalidState, NotFound

_FREE = frozenset({SELF_READ, SELF_WRITE})


def create(
    *, actor: Actor, name: str, scopes: Iterable[str], expires_at: datetime | None
) -> dict[str, Any]:
    """Make a key for the actor with some of the actor's rights, and return it with its text.

    The text is in `key` and can't be had again.

    Raises Invalid, ScopeNotHeld, TooManyApiKeys, Unauthenticated or Unavailable.
    """
    wanted, now = sorted(set(scopes)), clock.now()
    if expires_at is not None and not now < expires_at <= now + API_KEY_LIFE_MOST:
        raise Invalid(details={"expires_at": ["Must be in the future, within 100 years."]})
    for scope in wanted:
        if scope not in _FREE and not actor.may(scope):
            raise ScopeNotHeld(scope)
    key_id = ids.new()
    text, digest = key_texts.make_key(key_id)
    with transaction() as session:
        user_id = sessions.hold_own(session, actor)
        if api_key_queries.count_good(session, user_id=user_id, now=now) >= API_KEYS_MOST:
            raise TooManyApiKeys
        made = api_key_queries.add(
            session,
            now=now,
            id=key_id,
            user_id=user_id,
            name=name,
            scopes=wanted,
            digest=digest,
            expires_at=expires_at,
        )
        _record(session, Action.API_KEY_CREATED, made, actor=actor, scopes=wanted)
        notices.api_key_made(session, user_id=user_id, scopes=wanted)
    return {**made._mapping, "key": text}


def list_keys(
    *, actor: Actor, after: tuple[Any, ...] | None, limit: int, offset: int
) -> list[RowMapping]:
    """Return the actor's keys that weren't deleted, the newest first; expired ones are among them.

    Raises Unavailable.
    """
    rows = api_key_queries.list_of(
        user_id=actor.user_id, now=clock.now(), after=after, limit=limit, offset=offset
    )
    return [row._mapping for row in rows]


def look_for_own(key_id: UUID, *, actor: Actor) -> None:
    """Make sure that a key is the actor's own, before a request is read any further.

    One that was deleted is found as well: the same request may have done it, and is only repeated.

    Raises NotFound or Unavailable.
    """
    if not api_key_queries.is_of(key_id=key_id, user_id=actor.user_id):
        raise NotFound


def rotate(*, actor: Actor, key_id: UUID, overlap_seconds: int) -> dict[str, Any]:
    """Give a key of the actor's another secret, and return it with its new text in `key`.

    The secret until now is good for the overlap beside the new one; the one before it, if its
    overlap isn't over, ends at once.

    Raises NotFound, InvalidState, Unauthenticated or Unavailable.
    """
    text, digest = key_texts.make_key(key_id)
    now = clock.now()
    before: dict[str, Any] = {"previous_digest": None, "previous_until": None}
    if overlap_seconds > 0:
        until = now + timedelta(seconds=overlap_seconds)
        before = {"previous_digest": api_keys.c.digest, "previous_until": until}
    with transaction() as session:
        user_id = sessions.hold_own(session, actor)
        rotated = api_key_queries.change(
            session, key_id=key_id, user_id=user_id, now=now, values={"digest": digest, **before}
        )
        if rotated is None:
            raise NotFound
        if rotated.expires_at is not None and rotated.expires_at <= now:
            raise InvalidState("This API key has expired. Make another one.")
        _record(
            session,
            Action.API_KEY_ROTATED,
            rotated,
            actor=actor,
            overlap_seconds=overlap_seconds,
        )
    return {**rotated._mapping, "key": text}


def delete(session: Session, *, actor: Actor, key_id: UUID) -> None:
    """End a key of the actor's, in the caller's transaction: its next request is refused.

    Raises NotFound.
    """
    now = clock.now()
    deleted = api_key_queries.change(
        session, key_id=key_id, user_id=actor.user_id, now=now, values={"revoked_at": now}
    )
    if deleted is None:
        raise NotFound
    _record(session, Action.API_KEY_DELETED, deleted, actor=actor)


def end_all(session: Session, *, actor: Actor, user_id: UUID) -> None:
    """End all keys of a user, in the caller's transaction; one event each."""
    for key in api_key_queries.end_all(session, user_id=user_id, now=clock.now()):
        _record(session, Action.API_KEY_DELETED, key, actor=actor)


def _record(
    session: Session,
    action: Action,
    key: Row[*tuple[Any, ...]],
    *,
    actor: Actor,
    **details: Any,
) -> None:
    # The owner is the subject: it shows in the owner's security log.
    audit.record(
        session,
        action,
        actor=actor,
        subject_type="user",
        subject_id=actor.user_id,
        details={"api_key_id": str(key.id), **details},
        personal={"name": key.name},
    )
