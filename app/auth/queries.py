"""What signing in asks of the database and changes there; one statement each."""

from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, Row, insert, update
from sqlalchemy.orm import Session

from app.auth.models import login_sessions
from app.auth.values import EndReason
from app.platform.db import first_row

# Whether login session and user are good at this moment, for requests and refreshing alike. A
# suspension whose time is over needs no job to end it.
_LIVE = """
    s.ended_at IS NULL
    AND s.expires_at > %(now)s
    AND (u.sessions_valid_after IS NULL OR s.created_at >= u.sessions_valid_after)
    AND (u.status = 'active' OR (u.status = 'suspended' AND u.suspended_until <= %(now)s)) IS TRUE
"""
_READ = """
SELECT s.user_id, u.roles, s.generation, s.confirmed_at, s.salt, s.created_at, $LIVE AS live
FROM login_sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = %(session_id)s
""".replace("$LIVE", _LIVE)
# Runs on every request, so it is plain SQL that the driver gets as it stands. It brings what the
# API shows of the user as well, which spares `/users/me` a second look at the same row.
_FOR_REQUEST = """
SELECT s.generation, s.confirmed_at,
    u.id, u.email, u.email_verified, u.name, array_prepend('user', u.roles) AS roles,
    u.status, u.created_at, u.updated_at, u.version
FROM login_sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = %(session_id)s AND $LIVE
""".replace("$LIVE", _LIVE)

SessionRow: TypeAlias = Row[*tuple[Any, ...]]


def read_for_request(*, session_id: UUID, now: datetime) -> Any:
    """Return a live login session's generation and its user as shown; None when it isn't live.

    Raises Unavailable.
    """
    return first_row(_FOR_REQUEST, {"session_id": session_id, "now": now})


def read(connection: Connection, *, session_id: UUID, now: datetime) -> SessionRow | None:
    """Return a login session with its user's roles, and whether it is `live`; None if unknown."""
    parameters = {"session_id": session_id, "now": now}
    return connection.exec_driver_sql(_READ, parameters).one_or_none()


def start(session: Session, **values: Any) -> None:
    """Insert a login session."""
    session.execute(insert(login_sessions), values)


def confirm(session: Session, *, session_id: UUID, generation: int, now: datetime) -> None:
    """Note that the client has shown a token of this generation; the first time counts."""
    session.execute(
        update(login_sessions)
        .where(
            login_sessions.c.id == session_id,
            login_sessions.c.generation == generation,
            login_sessions.c.confirmed_at.is_(None),
        )
        .values(confirmed_at=now)
    )


def rotate(
    session: Session, *, session_id: UUID, generation: int, now: datetime, expires_at: datetime
) -> bool:
    """Go from this generation to the next one; False when somebody else went first.

    Compare and swap: of many at once exactly one gets True.
    """
    rotated = session.execute(
        update(login_sessions)
        .where(
            login_sessions.c.id == session_id,
            login_sessions.c.generation == generation,
            login_sessions.c.ended_at.is_(None),
        )
        .values(
            generation=generation + 1,
            confirmed_at=None,
            last_used_at=now,
            expires_at=expires_at,
        )
        .returning(login_sessions.c.id)
    )
    return rotated.first() is not None


def end(
    session: Session,
    *,
    session_id: UUID | None,
    reason: EndReason,
    now: datetime,
    generation: int | None = None,
) -> bool:
    """End a login session; False when it had ended, or isn't at this generation any more.

    An actor who has none, such as a command, ends nothing.
    """
    statement = update(login_sessions).where(
        login_sessions.c.id == session_id, login_sessions.c.ended_at.is_(None)
    )
    if generation is not None:
        statement = statement.where(login_sessions.c.generation == generation)
    ended = session.execute(
        statement.values(ended_at=now, ended_reason=reason).returning(login_sessions.c.id)
    )
    return ended.first() is not None
