"""Turns an access token into the actor it stands for, with the rights of this moment."""

from app.auth import queries, tokens
from app.platform import clock
from app.platform.actor import Actor
from app.platform.errors import Unauthenticated
from app.users.values import permissions_of


def authenticate(
    token: str, *, request_id: str, address: str | None, user_agent: str | None
) -> Actor:
    """Return who is asking. One indexed read; nothing about the login session is cached.

    Whatever is wrong with the token, its login session or its user looks the same.

    Raises Unauthenticated or Unavailable.
    """
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
        request_id=request_id,
        address=address,
        user_agent=user_agent,
        user=row,
    )
