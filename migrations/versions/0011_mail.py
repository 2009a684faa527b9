"""Mails, the tokens in them, and users who have to choose another password."""

from alembic import op

from migrations.privileges import grant

revision = "0011_mail"
down_revision = "0010_jobs"
branch_labels = None
depends_on = None

MAILS = """
-- One mail to one person, and the one-time token in it if it has one. The token isn't stored: it is
-- computed from the id, the kind and a master key.
CREATE TABLE mails (
    id         uuid NOT NULL,
    kind       text NOT NULL,
    -- Whom it is about. Null: nobody has looked yet whether anybody has this address. The row of a
    -- request is the same for known and unknown addresses; the worker looks, and deletes it.
    user_id    uuid,
    -- Where it goes to. Null: to the address that the user has when it is sent.
    email      text,
    -- What that address is compared by, as in users.
    email_key  text,
    -- What the text says beyond the name: a device, a date. Of a private sign-up what the user will
    -- be made of: name and hash of the password. Personal data, gone with the row.
    facts      jsonb NOT NULL,
    state      text NOT NULL,
    created_at timestamptz NOT NULL,
    -- When it was sent, or given up.
    settled_at timestamptz,
    -- The end of its token, counted from the moment it is sent. Null: none was sent yet.
    expires_at timestamptz,
    -- A token is good once: whoever sets this first has used it.
    used_at    timestamptz,
    CONSTRAINT pk_mails PRIMARY KEY (id),
    CONSTRAINT fk_mails_user_id_users FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT ck_mails_kind CHECK (kind IN (
        'verify', 'sign_up', 'reset', 'forced_reset', 'change', 'change_notice', 'change_told',
        'new_device', 'credential_changed', 'reused', 'api_key_made', 'deletion')),
    CONSTRAINT ck_mails_whom CHECK (user_id IS NOT NULL OR email IS NOT NULL),
    CONSTRAINT ck_mails_email CHECK (char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT ck_mails_email_key CHECK ((email IS NULL) = (email_key IS NULL)),
    CONSTRAINT ck_mails_facts CHECK (jsonb_typeof(facts) = 'object'),
    CONSTRAINT ck_mails_state CHECK (state IN ('waiting', 'sent', 'dead')),
    CONSTRAINT ck_mails_settled CHECK ((settled_at IS NULL) = (state = 'waiting'))
)
"""

INDEXES = (
    # A user's open tokens, and all that erasure deletes.
    "CREATE INDEX ix_mails_user_id ON mails (user_id)",
    # Whether an address is kept for somebody who may still undo its change.
    "CREATE INDEX ix_mails_email_key ON mails (email_key)",
    # Old ones are deleted.
    "CREATE INDEX ix_mails_created_at ON mails (created_at)",
    # Those that an operator tries again.
    "CREATE INDEX ix_mails_dead ON mails (created_at, id) WHERE state = 'dead'",
)

# With a default only while rows exist: the service says it for every new one.
USERS = """
ALTER TABLE users
    -- Staff asked for it, or an address was taken back: no sign-in until the password is a new one.
    ADD COLUMN reset_required boolean NOT NULL DEFAULT false
"""


def upgrade() -> None:
    """Create the table of mails, empty; nobody has to choose a new password."""
    op.execute(MAILS)
    for statement in INDEXES:
        op.execute(statement)
    op.execute(USERS)
    grant("SELECT, INSERT, UPDATE, DELETE", "mails")
    grant("UPDATE (email, email_key, email_verified, name, name_grams, reset_required)", "users")
