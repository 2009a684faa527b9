"""Turns an access token or an API key into the actor it stands for, with today's rights."""

import hmac
from typing import Any

from app.auth import api_key_queries, key_texts, queries, tokens
from app.auth.values import USE_NOTED_EVERY
from app.platform import clock
from app.platform.actor import Actor
from app.platform.errors import Unauthenticated
from app.users.values import permissions_of


def authenticate(
    token: str, *, request_id: str, address: str | None, user_agent: str | None
) -> Actor:
    """Return who is asking. One indexed read; nothing about login session or key is cached.

    Whatever is wrong with the token, its login session, the key or its user looks the same.

    Raises Unauthenticated or Unavailable.
    """
    origin = {"request_id": request_id, "address": address, "user_agent": user_agent}
    return _by_key(token, origin) if key_texts.is_key(token) else _by_access_token(token, origin)


def _by_access_token(token: str, origin: dict[str, Any]) -> Actor:
    claims = tokens.verified.claims(token)
    now = clock.now()
    row = queries.read_for_request(session_id=claims.session_id, key_id=claims.key_id, now=now)
    if row is None or row.id != claims.user_id:
        raise Unauthenticated
    if row.confirmed_at is None and row.generation == claims.generation:
        # The client has its tokens: from now on the refresh token before them is good for the
        # grace time only. Once for each refresh, so nearly every request goes without it.
        queries.confirm(session_id=claims.session_id, generation=claims.generation, now=now)
    roles = frozenset(row.roles)
    return Actor(
        kind="user",
        user_id=claims.user_id,
        roles=roles,
        permissions=permissions_of(roles),
        session_id=claims.session_id,
        user=row,
        **origin,
    )


def _by_key(token: str, origin: dict[str, Any]) -> Actor:
    """Return the actor of an API key: its owner, with those of the key's scopes that they hold."""
    sent = key_texts.read_key(token)
    now = clock.now()
    row = api_key_queries.read_for_request(key_id=sent.key_id, now=now)
    if row is None or not _is_genuine(sent.digest, row):
        raise Unauthenticated
    if row.last_used_at is None or row.last_used_at <= now - USE_NOTED_EVERY:
        api_key_queries.note_use(key_id=sent.key_id, now=now)
    roles, scopes = frozenset(row.roles), frozenset(row.scopes)
    return Actor(
        kind="api_key",
        user_id=row.id,
        roles=roles,
        permissions=permissions_of(roles) & scopes,
        api_key_id=sent.key_id,
        scopes=scopes,
        user=row,
        **origin,
    )


def _is_genuine(sent: bytes, row: Any) -> bool:
    """Tell whether it is one of the key's secrets; the time says nothing of how much is right."""
    current = hmac.compare_digest(sent, bytes(row.digest))
    previous = hmac.compare_digest(sent, bytes(row.previous_digest or b""))
    return current or previous
