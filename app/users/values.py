"""What users are made of: roles and permissions, states, limits, and how addresses compare."""

import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache

from email_validator import validate_email

NAME_MIN, NAME_MAX = 1, 100
EMAIL_MIN, EMAIL_MAX = 3, 254
# Folding can lengthen a local part; the key column is indexed and has a bound of its own.
EMAIL_KEY_MAX = 320
PASSWORD_MIN, PASSWORD_MAX = 8, 128
IDS_MAX = 100

PERMISSIONS = frozenset(
    {
        "users:read", "users:write", "users:roles", "users:suspend",
        "credits:read", "credits:grant", "credits:charge", "credits:reverse",
        "catalogue:write", "orders:read", "orders:write", "orders:refund",
        "audit:read", "webhooks:write",
    }
)  # fmt: skip

USER_ROLE = "user"
ROLES: Mapping[str, frozenset[str]] = {
    USER_ROLE: frozenset(),
    "support": frozenset(
        {"users:read", "orders:read", "credits:read", "audit:read", "users:suspend"}
    ),
    "finance": frozenset(
        {
            "users:read", "credits:read", "credits:grant", "credits:reverse", "credits:charge",
            "orders:read", "orders:refund", "audit:read",
        }
    ),
    "service": frozenset({"users:read", "credits:read", "credits:charge"}),
    "admin": PERMISSIONS,
}  # fmt: skip


class Status(StrEnum):
    """Where a user is in life: only `active` signs in, and `suspended` once its time is over."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETING = "deleting"
    ERASED = "erased"


# Whoever is one of these gets nothing but good-bye.
GONE = (Status.DELETING, Status.ERASED)


@cache
def permissions_of(roles: frozenset[str]) -> frozenset[str]:
    """Return what the roles permit together."""
    return frozenset[str]().union(*(ROLES[role] for role in roles))


def all_roles(stored: Iterable[str]) -> frozenset[str]:
    """Return the stored roles and the one that everybody has."""
    return frozenset(stored) | {USER_ROLE}


def email_key(email: str) -> str:
    """Return what the address is compared by: NFKC, case-folded, its domain by IDNA.

    Nothing is looked up in the DNS. Domains that are reserved for tests (RFC 6761) are taken.

    Raises ValueError when it isn't an address.
    """
    parts = validate_email(email, check_deliverability=False, test_environment=True)
    folded = unicodedata.normalize("NFKC", parts.local_part).casefold()
    # Folding can leave characters that NFKC would write differently: "ϓ" is one.
    key = f"{unicodedata.normalize('NFKC', folded)}@{parts.ascii_domain}"
    if len(key) > EMAIL_KEY_MAX:
        raise ValueError("The address is too long once it is folded.")
    return key
