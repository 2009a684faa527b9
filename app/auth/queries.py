"""What signing in asks of the database and changes there; one statement each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Row,
    bindparam,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from app.auth.models import login_sessions
from app.auth.values import ABSOLUTE, EndReason
from app.platform.db import first_row, reading

# Whether a user `u` may sign in at this moment. A suspension whose time is over needs no job to
# end it.
USER_IS_LIVE = """
    (u.status = 'active' OR (u.status = 'suspended' AND u.suspended_until <= %(now)s)) IS TRUE
"""
# What the API shows of that user: active, by a suspension that is over too; app/users/queries.py
# says how that is shown.
USER_AS_SHOWN = """
    u.id, u.email, u.email_verified, u.name, array_prepend('user', u.roles) AS roles,
    'active' AS status, u.created_at, u.updated_at,
    u.version + CAST(u.status = 'suspended' AS integer) AS version
"""
# Whether login session and user are good, for requests and refreshing alike.
_LIVE = f"s.ended_at IS NULL AND s.expires_at > %(now)s AND {USER_IS_LIVE}"
_READ = """
SELECT s.user_id, s.device, u.roles, s.generation, s.confirmed_at, s.salt,
    s.created_at, s.last_used_at, s.expires_at,
    coalesce(s.device_id, s.id) AS device_id, u.password_changed_at, $LIVE AS live
FROM login_sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = %(session_id)s
""".replace("$LIVE", _LIVE)
# Runs on every request, so it is plain SQL that the driver gets as it stands. It brings what the
# API shows of the user as well, which spares `/users/me` a second look at the same row.
_FOR_REQUEST = """
SELECT s.generation, s.confirmed_at, $SHOWN
FROM login_sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = %(session_id)s AND $LIVE AND (
    %(key_id)s IS NULL
    OR EXISTS (SELECT FROM signing_keys k WHERE k.id = %(key_id)s AND k.state <> 'revoked')
)
""".replace("$SHOWN", USER_AS_SHOWN).replace("$LIVE", _LIVE)

# Nothing else belongs to these two changes: each is a transaction of its own, in one round trip.
_CONFIRM = """
UPDATE login_sessions SET confirmed_at = %(now)s
WHERE id = %(session_id)s AND generation = %(generation)s AND confirmed_at IS NULL
RETURNING id
"""
_ROTATE = """
UPDATE login_sessions SET generation = generation + 1, confirmed_at = NULL,
    last_used_at = %(now)s, expires_at = %(expires_at)s
WHERE id = %(session_id)s AND generation = %(generation)s AND ended_at IS NULL
RETURNING id
"""

_LIST_LIVE = (
    select(
        login_sessions.c.id,
        login_sessions.c.device,
        login_sessions.c.address,
        login_sessions.c.created_at,
        login_sessions.c.last_used_at,
    )
    .where(
        login_sessions.c.user_id == bindparam("user_id"),
        login_sessions.c.ended_at.is_(None),
        login_sessions.c.expires_at > bindparam("now"),
        # None lives longer. This spares reading all that have expired, which aren't marked.
        login_sessions.c.created_at > bindparam("oldest"),
    )
    .order_by(login_sessions.c.created_at.desc(), login_sessions.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("offset"))
)
_position = tuple_(login_sessions.c.created_at, login_sessions.c.id)
_LOOK = select(login_sessions.c.id).where(
    login_sessions.c.id == bindparam("session_id"),
    login_sessions.c.user_id == bindparam("user_id"),
)

_of_user = select(login_sessions.c.id).where(login_sessions.c.user_id == bindparam("user_id"))
_EARLIER = select(
    _of_user.exists().label("any"),
    _of_user.where(
        login_sessions.c.device.is_not_distinct_from(bindparam("device")),
        login_sessions.c.address.is_not_distinct_from(bindparam("address")),
    )
    .exists()
    .label("alike"),
)

SessionRow: TypeAlias = Row[*tuple[Any, ...]]


def read_for_request(*, session_id: UUID, key_id: UUID | None, now: datetime) -> Any:
    """Return a live login session's generation and its user as shown.

    None when it isn't live, or when the key that signed the access token is revoked or gone.

    Raises Unavailable.
    """
    return first_row(_FOR_REQUEST, {"session_id": session_id, "key_id": key_id, "now": now})


def read(*, session_id: UUID, now: datetime) -> Any:
    """Return a login session with its user's roles, and whether it is `live`; None if unknown.

    Raises Unavailable.
    """
    return first_row(_READ, {"session_id": session_id, "now": now})


def read_within(session: Session, *, session_id: UUID | None, now: datetime) -> SessionRow | None:
    """Return what `read` does, in the caller's transaction and so under its locks."""
    parameters = {"session_id": session_id, "now": now}
    return session.connection().exec_driver_sql(_READ, parameters).one_or_none()


def list_live(
    *, user_id: UUID | None, now: datetime, after: tuple[Any, ...] | None, limit: int, offset: int
) -> Sequence[SessionRow]:
    """Return a user's live login sessions, the last begun first.

    Raises Unavailable.
    """
    statement = _LIST_LIVE if after is None else _LIST_LIVE.where(_position < after)
    times = {"now": now, "oldest": now - ABSOLUTE}
    with reading() as connection:
        return connection.execute(
            statement, {"user_id": user_id, "limit": limit, "offset": offset, **times}
        ).all()


def is_of(*, session_id: UUID, user_id: UUID | None) -> bool:
    """Tell whether a login session, live or not, is this user's.

    Raises Unavailable.
    """
    with reading() as connection:
        found = connection.execute(_LOOK, {"session_id": session_id, "user_id": user_id})
        return found.first() is not None


def earlier(
    session: Session, *, user_id: UUID, device: str | None, address: str | None
) -> SessionRow:
    """Tell whether a user had `any` login session so far, and one `alike` in device and address."""
    return session.execute(
        _EARLIER, {"user_id": user_id, "device": device, "address": address}
    ).one()


def start(session: Session, **values: Any) -> None:
    """Insert a login session."""
    session.execute(insert(login_sessions), values)


def confirm(*, session_id: UUID, generation: int, now: datetime) -> None:
    """Note that the client has shown a token of this generation; the first time counts.

    Raises Unavailable.
    """
    first_row(_CONFIRM, {"session_id": session_id, "generation": generation, "now": now})


def rotate(*, session_id: UUID, generation: int, now: datetime, expires_at: datetime) -> bool:
    """Go from this generation to the next one; False when somebody else went first.

    Compare and swap: of many at once exactly one gets True.

    Raises Unavailable.
    """
    parameters = {"session_id": session_id, "generation": generation, "now": now}
    return first_row(_ROTATE, parameters | {"expires_at": expires_at}) is not None


def end_all(
    session: Session,
    *,
    user_id: UUID,
    reason: EndReason,
    now: datetime,
    but: UUID | None = None,
) -> int:
    """End a user's login sessions, all `but` one if given, and return how many.

    The caller holds the user's row (FOR NO KEY UPDATE), which a new login session waits for: none
    begins unseen beside this.
    """
    which = [login_sessions.c.user_id == user_id]
    if but is not None:
        which.append(login_sessions.c.id != but)
    return _end(session, *which, reason=reason, now=now)


def end(
    session: Session,
    *,
    session_id: UUID,
    reason: EndReason,
    now: datetime,
    generation: int | None = None,
) -> bool:
    """End a login session; False when it had ended, or isn't at this generation any more."""
    which = [login_sessions.c.id == session_id]
    if generation is not None:
        which.append(login_sessions.c.generation == generation)
    return _end(session, *which, reason=reason, now=now) > 0


def end_live(
    session: Session, *, session_id: UUID, user_id: UUID | None, reason: EndReason, now: datetime
) -> bool:
    """End a login session if it is live and this user's, and tell whether it was."""
    which = (
        login_sessions.c.id == session_id,
        login_sessions.c.user_id == user_id,
        login_sessions.c.expires_at > now,
    )
    return _end(session, *which, reason=reason, now=now) > 0


def _end(session: Session, *which: ColumnElement[bool], reason: EndReason, now: datetime) -> int:
    statement = update(login_sessions).where(*which, login_sessions.c.ended_at.is_(None))
    ended = session.execute(statement.values(ended_at=now, ended_reason=reason))
    # An UPDATE without RETURNING always tells how many rows it changed.
    return cast("CursorResult[Any]", ended).rowcount
