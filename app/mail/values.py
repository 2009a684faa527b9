"""The kinds of mails, and how long the links in them are good."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum


class Kind(StrEnum):
    """The occasion of a mail; wording.py says what each one says."""

    VERIFY = "verify"
    SIGN_UP = "sign_up"
    KNOWN = "known"
    RESET = "reset"
    FORCED_RESET = "forced_reset"
    CHANGE = "change"
    CHANGE_NOTICE = "change_notice"
    CHANGE_TOLD = "change_told"
    NEW_DEVICE = "new_device"
    CREDENTIAL_CHANGED = "credential_changed"
    REUSED = "reused"
    API_KEY_MADE = "api_key_made"
    DELETION = "deletion"


# From the moment the mail is written. A kind that isn't here has no link.
LIFETIMES: Mapping[Kind, timedelta] = {
    Kind.VERIFY: timedelta(days=3),
    Kind.SIGN_UP: timedelta(days=3),
    # Whoever asked for it waits for it; in a mailbox that others read later it opens nothing.
    Kind.RESET: timedelta(hours=1),
    # Nobody waits for this one, and without it the user can't sign in.
    Kind.FORCED_RESET: timedelta(days=7),
    Kind.CHANGE: timedelta(days=3),
    Kind.CHANGE_NOTICE: timedelta(days=7),
    # As long as a deletion can be undone.
    Kind.DELETION: timedelta(days=30),
}


class State(StrEnum):
    """How far a mail has come."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"  # Every try has failed; `flask mail retry` begins anew.
