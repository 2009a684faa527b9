"""Names addresses that nobody may be known by, in the audit trail."""

import hmac

from app.keys import master
from app.users.values import email_key

_LABEL = "unknown address"


def pseudonym(email: str) -> str:
    """Return an HMAC of an address: the same for the same one, and nobody can read it back."""
    return hmac.digest(master.derive(_LABEL), email_key(email).encode(), "sha256").hex()
