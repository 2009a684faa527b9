"""API keys."""

from alembic import op

from migrations.privileges import grant

revision = "0012_api_keys"
down_revision = "0011_mail"
branch_labels = None
depends_on = None

API_KEYS = """
-- What a program proves with that it acts for a user. Only a digest of its secret is stored.
CREATE TABLE api_keys (
    -- Part of the key's text, and what it is found by. Stays when the key is rotated.
    id              uuid NOT NULL,
    -- Whom the key acts for: never with more rights than this user has at that moment.
    user_id         uuid NOT NULL,
    -- What the owner tells it from the others by.
    name            text NOT NULL,
    -- Names of permissions, and self:read and self:write. No list of them here: a new permission
    -- would need a migration, and a name that means nothing opens nothing.
    scopes          text[] NOT NULL,
    -- sha256 of the secret. It is 32 random bytes, which nobody can guess at any speed: a slow
    -- hash with a salt protects what people choose, and would cost each request 75 ms.
    digest          bytea NOT NULL,
    -- The secret before the last rotation, and until when it is good beside the new one, so that
    -- a program can be given the new one without a pause. Null: there is none.
    previous_digest bytea,
    previous_until  timestamptz,
    created_at      timestamptz NOT NULL,
    -- Null: good until it is deleted.
    expires_at      timestamptz,
    -- Written once a minute at most. Null: never used.
    last_used_at    timestamptz,
    -- When its owner deleted it. The row stays, because audit events name its id.
    revoked_at      timestamptz,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT fk_api_keys_user_id_users FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT ck_api_keys_name CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT ck_api_keys_scopes CHECK (
        cardinality(scopes) >= 1 AND array_position(scopes, NULL) IS NULL
    ),
    CONSTRAINT ck_api_keys_digest CHECK (octet_length(digest) = 32),
    CONSTRAINT ck_api_keys_previous_digest CHECK (octet_length(previous_digest) = 32),
    CONSTRAINT ck_api_keys_previous CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
)
"""

# A user's keys, newest first, which is also how they are counted. Deleted ones are nobody's list.
INDEX = """
CREATE INDEX ix_api_keys_live ON api_keys (user_id, created_at, id) WHERE revoked_at IS NULL
"""


def upgrade() -> None:
    """Create the table of API keys, empty."""
    op.execute(API_KEYS)
    op.execute(INDEX)
    grant("SELECT, INSERT", "api_keys")
    # Rotation, use and end. Owner, name, scopes and expiry never change.
    grant("UPDATE (digest, previous_digest, previous_until, last_used_at, revoked_at)", "api_keys")
