"""Use cases of signing in: login and refresh."""

import os
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from app.audit import service as audit
from app.audit.actions import Action
from app.auth import (
    device_names,
    device_tokens,
    hindrances,
    identities,
    notices,
    queries,
    tallies,
    throttling,
    tokens,
)
from app.auth.errors import InvalidCredentials, InvalidRefreshToken, SessionRevoked
from app.auth.queries import SessionRow
from app.auth.tokens import RefreshToken
from app.auth.values import ABSOLUTE, GRACE, IDLE, EndReason
from app.platform import clock, ids, ratelimit
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.settings import Settings
from app.users import passwords
from app.users import service as users
from app.users.models import UserRow
from app.users.values import Status, all_roles

_SALT_BYTES = 16
_BEARER = "Bearer"
_access_seconds = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a client gets when it signs in or refreshes, and until when its cookie is good."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    session_id: UUID
    session_expires_at: datetime
    device_token: str


def configure(settings: Settings) -> None:
    """Use the settings' lifetime of access tokens and rule of who may sign in, from now on."""
    global _access_seconds
    _access_seconds = settings.auth_access_seconds
    hindrances.configure(settings)


@tallies.login()
@passwords.place()
def login(*, email: str, password: str, device_token: str | None = None, actor: Actor) -> Tokens:
    """Begin a login session with an address and a normalised password.

    An unknown address takes the same statements, the same hash and the same time as a wrong
    password, and gets the same answer. Refusals are audited. A device token that isn't good, or
    another user's, counts as none.

    Raises TooManyRequests, InvalidCredentials, UserSuspended, ResetRequired, EmailNotVerified,
    Overloaded or Unavailable.
    """
    user = users.find_credentials(email)
    device_id = device_tokens.known_device(
        device_token,
        user_id=user.id if user else None,
        password_changed_at=user.password_changed_at if user else None,
    )
    if device_id is None:
        # Not before: whoever uses up a network address doesn't lock out the devices behind it.
        ratelimit.take_of_address(actor.address)
    with throttling.sign_in(email=email, address=actor.address, device_id=device_id):
        return _sign_in(user, email=email, password=password, device_id=device_id, actor=actor)


def _sign_in(
    user: UserRow | None, *, email: str, password: str, device_id: UUID | None, actor: Actor
) -> Tokens:
    """Check the password, and begin the login session."""
    while True:
        genuine = passwords.verify(password, user.password_hash if user else None)
        if user is None or not genuine or user.status in (Status.DELETING, Status.ERASED):
            _record_failure(user, email=email, reason="credentials", actor=actor)
            raise InvalidCredentials
        hindrance = hindrances.of(user)
        if hindrance is not None:
            reason, refusal = hindrance
            _record_failure(user, email=email, reason=reason, actor=actor)
            raise refusal
        started = _start_session(user, password=password, device_id=device_id, actor=actor)
        if started is not None:
            return started
        # The user was changed while the hash was checked: by another password, by another login
        # that renewed the hash, by a suspension. Which of them, only a new look can tell.
        user = users.find_credentials(email)


def _start_session(
    user: UserRow, *, password: str, device_id: UUID | None, actor: Actor
) -> Tokens | None:
    """Begin the login session and audit it; None when the user isn't as read by now."""
    new_hash = None
    if passwords.is_outdated(user.password_hash):
        new_hash = passwords.hash_password(password)
    session_id, salt, now = ids.new(), os.urandom(_SALT_BYTES), clock.now()
    expires_at = now + IDLE
    device = device_names.shortened(actor.user_agent)
    with transaction() as session:
        if not users.hold_credentials(session, read=user, new_hash=new_hash):
            return None
        if device_id is None:
            notices.new_device(session, user=user, device=device, address=actor.address)
            # A device that nobody knows yet is known by its first login session.
            device_id = session_id
        queries.start(
            session,
            id=session_id,
            user_id=user.id,
            generation=1,
            confirmed_at=now,
            salt=salt,
            device=device,
            device_id=device_id,
            address=actor.address,
            created_at=now,
            last_used_at=now,
            expires_at=expires_at,
        )
        audit.record(
            session,
            Action.SESSION_STARTED,
            actor=replace(actor, kind="user", user_id=user.id),
            subject_type="user",
            subject_id=user.id,
            details={"session_id": str(session_id)},
        )
    return _tokens(
        user.id,
        user.roles,
        session_id=session_id,
        generation=1,
        salt=salt,
        expires_at=expires_at,
        device_id=device_id,
        created_at=now,
        password_changed_at=user.password_changed_at,
    )


def refresh(*, refresh_token: str, is_shared: bool = False, actor: Actor) -> Tokens:
    """Exchange a refresh token for new tokens (RFC 9700, 4.14.2).

    The current one is replaced, once, however many send it together. The one before is good as long
    as the current one may not have arrived, and a little longer for other tabs; it gets the current
    one again. Any older one ends the login session: a thief or the owner has had it before.

    One that tabs share, in a browser's cookie, isn't replaced again within the grace time: of many
    tabs that wake up one after the other some would still send the one before the one before.

    Raises InvalidRefreshToken, SessionRevoked, TooManyRequests or Unavailable.
    """
    sent = tokens.read_refresh_token(refresh_token)
    while True:
        now = clock.now()
        row = queries.read(session_id=sent.session_id, now=now)
        if row is None or not sent.is_genuine(bytes(row.salt), newest=row.generation):
            raise InvalidRefreshToken
        if not row.live:
            raise SessionRevoked
        ratelimit.spend_of_user(row.user_id)
        if sent.generation == row.generation and is_shared and _is_fresh(row, now):
            queries.confirm(session_id=sent.session_id, generation=sent.generation, now=now)
            return _renewed(sent, row, generation=row.generation, expires_at=row.expires_at)
        if sent.generation == row.generation:
            expires_at = min(now + IDLE, row.created_at + ABSOLUTE)
            if queries.rotate(
                session_id=sent.session_id,
                generation=sent.generation,
                now=now,
                expires_at=expires_at,
            ):
                return _renewed(sent, row, generation=row.generation + 1, expires_at=expires_at)
        elif sent.generation == row.generation - 1 and _in_grace(row, now):
            return _renewed(sent, row, generation=row.generation, expires_at=row.expires_at)
        elif _end_for_reuse(sent, row, actor=actor, now=now):
            raise SessionRevoked
        # Somebody changed the row since it was read, which happens a few times at most, because a
        # generation only grows and an end is final: look again, and decide by what is there now.


def _record_failure(user: UserRow | None, *, email: str, reason: str, actor: Actor) -> None:
    """Audit a refused login in a transaction of its own: decided before, raised after."""
    # Made for known addresses as well, because they must not be quicker or slower.
    identity = identities.pseudonym(email)
    with transaction() as session:
        audit.record(
            session,
            Action.LOGIN_FAILED,
            actor=actor,
            subject_type="user",
            subject_id=user.id if user else None,
            details={"reason": reason} if user else {"reason": reason, "identity": identity},
        )


def _is_fresh(row: SessionRow, now: datetime) -> bool:
    """Tell whether the current refresh token has only just replaced another one."""
    return bool(row.generation > 1 and now - row.last_used_at < GRACE)


def _in_grace(row: SessionRow, now: datetime) -> bool:
    return row.confirmed_at is None or now - row.confirmed_at < GRACE


def _end_for_reuse(sent: RefreshToken, row: SessionRow, *, actor: Actor, now: datetime) -> bool:
    """End the login session and audit it, unless the row has changed since it was read."""
    with transaction() as session:
        # The user's row first, as everybody does who ends login sessions and writes mails.
        users.hold_user(session, row.user_id)
        ended = queries.end(
            session,
            session_id=sent.session_id,
            reason=EndReason.REUSE,
            now=now,
            generation=row.generation,
        )
        if ended:
            notices.reused(session, user_id=row.user_id, device=row.device)
            audit.record(
                session,
                Action.REFRESH_REUSED,
                actor=actor,
                subject_type="user",
                subject_id=row.user_id,
                details={
                    "session_id": str(sent.session_id),
                    "generation": row.generation,
                    "sent_generation": sent.generation,
                },
            )
    return ended


def _renewed(
    sent: RefreshToken, row: SessionRow, *, generation: int, expires_at: datetime
) -> Tokens:
    return _tokens(
        row.user_id,
        row.roles,
        session_id=sent.session_id,
        generation=generation,
        salt=bytes(row.salt),
        expires_at=expires_at,
        device_id=row.device_id,
        created_at=row.created_at,
        password_changed_at=row.password_changed_at,
    )


def _tokens(
    user_id: UUID,
    roles: list[str],
    *,
    session_id: UUID,
    generation: int,
    salt: bytes,
    expires_at: datetime,
    device_id: UUID,
    created_at: datetime,
    password_changed_at: datetime | None,
) -> Tokens:
    return Tokens(
        access_token=tokens.issue_access_token(
            user_id=user_id, session_id=session_id, generation=generation, roles=all_roles(roles)
        ),
        token_type=_BEARER,
        expires_in=_access_seconds,
        refresh_token=tokens.make_refresh_token(
            session_id=session_id, generation=generation, salt=salt
        ),
        session_id=session_id,
        session_expires_at=expires_at,
        # The same one in each answer of a login session, while password and master key stay.
        device_token=device_tokens.make_device_token(
            device_id=device_id,
            user_id=user_id,
            issued_at=created_at,
            password_changed_at=password_changed_at,
        ),
    )
