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
    USER_ROLES_CHANGED = "users.user.roles_changed"
    SESSION_STARTED = "auth.session.started"
    SESSION_ENDED = "auth.session.ended"
    LOGIN_FAILED = "auth.login.failed"
    REFRESH_REUSED = "auth.token.reused"
    ACCESS_DENIED = "auth.access.denied"
    CREDENTIAL_CHANGED = "auth.credential.changed"
    CREDENTIAL_REFUSED = "auth.credential.refused"
    USER_SUSPENDED = "auth.user.suspended"
    USER_REINSTATED = "auth.user.reinstated"
    SIGNING_KEY_CREATED = "keys.signing_key.created"
    SIGNING_KEY_ACTIVATED = "keys.signing_key.activated"
    SIGNING_KEY_REENCRYPTED = "keys.signing_key.reencrypted"
    SIGNING_KEY_REVOKED = "keys.signing_key.revoked"
    SIGNING_KEY_DELETED = "keys.signing_key.deleted"
    GRANT_CREATED = "credits.grant.created"
    TRANSFER_CREATED = "credits.transfer.created"
