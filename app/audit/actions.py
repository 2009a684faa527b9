"""Names what can happen."""

from enum import StrEnum


class Action(StrEnum):
    """An action: `feature.subject.verb`.

    `feature` is the folder that records it, `subject` the kind of thing it happened to, singular;
    `verb` is in the past tense. Words are lower case, joined by `_`. A name is never changed or
    reused once released: old events keep it. Members are called `<SUBJECT>_<VERB>`.
    """

    USER_CREATED = "users.user.created"
    ADMIN_CREATED = "users.admin.created"
    USER_CHANGED = "users.user.changed"
    USER_ROLES_CHANGED = "users.user.roles_changed"
    SESSION_STARTED = "auth.session.started"
    SESSION_ENDED = "auth.session.ended"
    LOGIN_FAILED = "auth.login.failed"
    REFRESH_REUSED = "auth.token.reused"
    ACCESS_DENIED = "auth.access.denied"
    CREDENTIAL_CHANGED = "auth.credential.changed"
    CREDENTIAL_REFUSED = "auth.credential.refused"
    CREDENTIAL_RECOVERED = "auth.credential.recovered"
    CREDENTIAL_RESET_REQUIRED = "auth.credential.reset_required"
    RECOVERY_REQUESTED = "auth.recovery.requested"
    EMAIL_VERIFIED = "auth.email.verified"
    EMAIL_CHANGE_REQUESTED = "auth.email.change_requested"
    EMAIL_CHANGED = "auth.email.changed"
    EMAIL_CHANGE_REVERTED = "auth.email.change_reverted"
    DELETION_REVERTED = "auth.deletion.reverted"
    API_KEY_CREATED = "auth.api_key.created"
    API_KEY_ROTATED = "auth.api_key.rotated"
    API_KEY_DELETED = "auth.api_key.deleted"
    USER_SUSPENDED = "auth.user.suspended"
    USER_REINSTATED = "auth.user.reinstated"
    SIGNING_KEY_CREATED = "keys.signing_key.created"
    SIGNING_KEY_ACTIVATED = "keys.signing_key.activated"
    SIGNING_KEY_REENCRYPTED = "keys.signing_key.reencrypted"
    SIGNING_KEY_REVOKED = "keys.signing_key.revoked"
    SIGNING_KEY_DELETED = "keys.signing_key.deleted"
    GRANT_CREATED = "credits.grant.created"
    CHARGE_CREATED = "credits.charge.created"
    TRANSFER_CREATED = "credits.transfer.created"
    LEDGER_FROZEN = "credits.ledger.frozen"
    LEDGER_UNFROZEN = "credits.ledger.unfrozen"
    DELETION_STARTED = "support.deletion.started"
    CREDITS_FORFEITED = "support.credits.forfeited"
    USER_ERASED = "support.user.erased"
    EXPORT_REQUESTED = "support.export.requested"
