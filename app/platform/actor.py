"""Who is asking: the one value that use cases take instead of a request."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

Kind = Literal["anonymous", "user", "api_key", "cli", "system"]

# What opens to an API key what every signed-in user may do: look, and change something.
SELF_READ, SELF_WRITE = "self:read", "self:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who is asking, with which rights, from where. `permissions` are those of this moment.

    `user` is the user's row as this request has read it, with what the API shows of users.

    An API key acts for its owner, whose id `user_id` is: it has no login session, and of the
    owner's permissions those among its `scopes`.
    """

    kind: Kind
    user_id: UUID | None = None
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    session_id: UUID | None = None
    api_key_id: UUID | None = None
    scopes: frozenset[str] = frozenset()
    request_id: str | None = None
    address: str | None = None
    user_agent: str | None = None
    user: Any = None

    def may(self, permission: str) -> bool:
        """Tell whether the actor holds the permission now."""
        return permission in self.permissions
