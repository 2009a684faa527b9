"""Audit events, their personal part, and the trigger that keeps books and audit append-only."""

from alembic import op

from migrations.privileges import grant

revision = "0001_audit"
down_revision = None
branch_labels = None
depends_on = None

REFUSE_CHANGE = """
-- Shared by every append-only table: audit here, the books later. The owner is refused as well, so
-- that one URL for both roles still protects. restrict_violation is an integrity error to drivers.
CREATE FUNCTION refuse_change_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME;
END
$$
"""

AUDIT_EVENTS = """
-- No personal data and no foreign keys: an event outlives whatever it speaks of, and an erased
-- user leaves ids behind, nothing else.
CREATE TABLE audit_events (
    id              uuid NOT NULL,
    -- feature.subject.verb, from the list in audit/actions.py. Only the form is checked here: a
    -- list in the schema would need a migration for each new action.
    action          text NOT NULL,
    -- system without an actor_id also stands for somebody who isn't signed in.
    actor_kind      text NOT NULL,
    actor_id        uuid,
    -- What kind of thing subject_id names, because one id alone doesn't say it.
    subject_type    text NOT NULL,
    -- Null when there is none: a failed login for an unknown address, a denied route.
    subject_id      uuid,
    -- Joins the event with log lines and error answers; commands have none.
    request_id      text,
    -- Names of changed fields, amounts, other ids. Never addresses, names or secrets.
    details         jsonb NOT NULL,
    -- sha256(salt || data) of the personal part, which may be erased while this proof stays.
    personal_digest bytea,
    created_at      timestamptz NOT NULL,
    CONSTRAINT pk_audit_events PRIMARY KEY (id),
    CONSTRAINT ck_audit_events_action CHECK (action ~ '^[a-z_]+[.][a-z_]+[.][a-z_]+$'),
    CONSTRAINT ck_audit_events_actor_kind
        CHECK (actor_kind IN ('user', 'api_key', 'cli', 'system')),
    CONSTRAINT ck_audit_events_request_id CHECK (char_length(request_id) BETWEEN 1 AND 128),
    CONSTRAINT ck_audit_events_details CHECK (jsonb_typeof(details) = 'object'),
    CONSTRAINT ck_audit_events_personal_digest CHECK (octet_length(personal_digest) = 32)
)
"""

AUDIT_PERSONAL = """
-- No foreign key to the event: its check would lock, and so rewrite, each event right after it was
-- written. Both rows come from one statement instead.
CREATE TABLE audit_personal (
    event_id   uuid NOT NULL,
    -- Whose data it is, for erasure. Null: a stranger's network address.
    subject_id uuid,
    -- Without a salt the digest of an address could be guessed back after erasure.
    salt       bytea NOT NULL,
    -- A JSON object as the very bytes that were digested; jsonb would rewrite them.
    data       bytea NOT NULL,
    CONSTRAINT pk_audit_personal PRIMARY KEY (event_id),
    CONSTRAINT ck_audit_personal_salt CHECK (octet_length(salt) = 16)
)
"""

# One index per filter of the list, each ending in the list's order, so that every page is a walk
# along one of them. Requests have few events: (request_id) is enough.
INDEXES = (
    "CREATE INDEX ix_audit_events_created_at_id ON audit_events (created_at, id)",
    "CREATE INDEX ix_audit_events_actor_id ON audit_events (actor_id, created_at, id)",
    "CREATE INDEX ix_audit_events_subject_id ON audit_events (subject_id, created_at, id)",
    "CREATE INDEX ix_audit_events_action ON audit_events (action, created_at, id)",
    "CREATE INDEX ix_audit_events_request_id ON audit_events (request_id)",
    "CREATE INDEX ix_audit_personal_subject_id ON audit_personal (subject_id)",
)

# Row triggers don't see TRUNCATE, and statement triggers don't reach a partition by its own name:
# each kind of change has the trigger that sees it.
TRIGGERS = (
    """
    CREATE TRIGGER audit_events_refuse_change BEFORE UPDATE OR DELETE ON audit_events
        FOR EACH ROW EXECUTE FUNCTION refuse_change_v1()
    """,
    """
    CREATE TRIGGER audit_events_refuse_truncate BEFORE TRUNCATE ON audit_events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1()
    """,
    # Rows may be deleted (erasure, retention); what stays must be what was written.
    """
    CREATE TRIGGER audit_personal_refuse_change BEFORE UPDATE ON audit_personal
        FOR EACH ROW EXECUTE FUNCTION refuse_change_v1()
    """,
    """
    CREATE TRIGGER audit_personal_refuse_truncate BEFORE TRUNCATE ON audit_personal
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1()
    """,
)


def upgrade() -> None:
    """Create the audit trail, append-only for everybody."""
    op.execute(REFUSE_CHANGE)
    op.execute(AUDIT_EVENTS)
    op.execute(AUDIT_PERSONAL)
    for statement in (*INDEXES, *TRIGGERS):
        op.execute(statement)
    # The service compares it with the revision that its code needs.
    grant("SELECT", "alembic_version")
    grant("SELECT, INSERT", "audit_events")
    grant("SELECT, INSERT", "audit_personal")
