"""What API keys ask of the database and change there; one statement each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, case, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.auth.models import api_keys
from app.auth.queries import USER_AS_SHOWN, USER_IS_LIVE
from app.auth.values import USE_NOTED_EVERY
from app.platform.db import first_row, reading

# Runs on every request of a program, as `_FOR_REQUEST` in queries.py does on those of people. A key
# rests while its owner has to set a new password: whoever knew the old one may have made it.
_FOR_REQUEST = """
SELECT k.digest, CASE WHEN k.previous_until > %(now)s THEN k.previous_digest END AS previous_digest,
    k.scopes, k.last_used_at, $SHOWN
FROM api_keys k JOIN users u ON u.id = k.user_id
WHERE k.id = %(key_id)s AND k.revoked_at IS NULL AND (k.expires_at > %(now)s) IS NOT FALSE
    AND NOT u.reset_required AND $LIVE
""".replace("$SHOWN", USER_AS_SHOWN).replace("$LIVE", USER_IS_LIVE)
# A transaction of its own, in one round trip. Of many requests at once one writes: the others wait
# for its row, and then find that it isn't old any more.
_NOTE_USE = """
UPDATE api_keys SET last_used_at = %(now)s
WHERE id = %(key_id)s AND (last_used_at IS NULL OR last_used_at <= %(old)s)
RETURNING id
"""

_now = bindparam("now", type_=api_keys.c.created_at.type)
# What the API shows of a key.
_SHOWN = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.scopes,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.last_used_at,
    case((api_keys.c.previous_until > _now, api_keys.c.previous_until)).label("previous_until"),
)
_of_user = (api_keys.c.user_id == bindparam("user_id"), api_keys.c.revoked_at.is_(None))
_LIST = (
    select(*_SHOWN)
    .where(*_of_user)
    .order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_position = tuple_(api_keys.c.created_at, api_keys.c.id)
_COUNT = select(func.count()).where(
    *_of_user, or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > _now)
)
_LOOK = select(api_keys.c.id).where(
    api_keys.c.id == bindparam("key_id"), api_keys.c.user_id == bindparam("user_id")
)
_INSERT = insert(api_keys).returning(*_SHOWN)


def read_for_request(*, key_id: UUID, now: datetime) -> Any:
    """Return a good key's digests, scopes and last use, and its owner as shown; None if not good.

    Raises Unavailable.
    """
    return first_row(_FOR_REQUEST, {"key_id": key_id, "now": now})


def note_use(*, key_id: UUID, now: datetime) -> None:
    """Note that a key was used, unless that was noted within the last minute.

    Raises Unavailable.
    """
    first_row(_NOTE_USE, {"key_id": key_id, "now": now, "old": now - USE_NOTED_EVERY})


def list_of(
    *, user_id: UUID | None, now: datetime, after: tuple[Any, ...] | None, limit: int, offset: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return a user's keys that weren't deleted, the newest first.

    Raises Unavailable.
    """
    statement = _LIST if after is None else _LIST.where(_position < after)
    with reading() as connection:
        return connection.execute(
            statement, {"user_id": user_id, "now": now, "limit": limit, "offset": offset}
        ).all()


def is_of(*, key_id: UUID, user_id: UUID | None) -> bool:
    """Tell whether a key, deleted or not, is this user's.

    Raises Unavailable.
    """
    with reading() as connection:
        found = connection.execute(_LOOK, {"key_id": key_id, "user_id": user_id})
        return found.first() is not None


def count_good(session: Session, *, user_id: UUID, now: datetime) -> int:
    """Return how many good keys a user has; the caller holds the user's row, or there are more."""
    return session.execute(_COUNT, {"user_id": user_id, "now": now}).scalar_one()


def add(session: Session, *, now: datetime, **values: Any) -> Row[*tuple[Any, ...]]:
    """Insert a key that is made now, and return it as shown."""
    return session.execute(_INSERT, {"created_at": now, "now": now, **values}).one()


def end_all(session: Session, *, user_id: UUID, now: datetime) -> Sequence[Row[*tuple[Any, ...]]]:
    """End all keys of a user that weren't deleted, and return them as shown."""
    statement = update(api_keys).where(
        api_keys.c.user_id == user_id, api_keys.c.revoked_at.is_(None)
    )
    ended = session.execute(statement.values(revoked_at=now).returning(*_SHOWN), {"now": now})
    return ended.all()


def change(
    session: Session,
    *,
    key_id: UUID,
    user_id: UUID | None,
    now: datetime,
    values: Mapping[str, Any],
) -> Row[*tuple[Any, ...]] | None:
    """Change this user's key and return it as shown; None if it was deleted or is another's."""
    statement = update(api_keys).where(
        api_keys.c.id == key_id,
        api_keys.c.user_id == user_id,
        api_keys.c.revoked_at.is_(None),
    )
    changed = session.execute(statement.values(values).returning(*_SHOWN), {"now": now})
    return changed.one_or_none()
