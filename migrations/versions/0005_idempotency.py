"""Idempotency keys: what was answered to a keyed request."""

from alembic import op

from migrations.privileges import grant

revision = "0005_idempotency"
down_revision = "0004_auth"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        CREATE TABLE idempotency_keys (
            -- Whose key it is. No foreign key: the platform knows no feature, and erasing a user
            -- deletes these rows first.
            user_id uuid NOT NULL,
            -- As the client sent it; visible ASCII only, as the header allows.
            key text NOT NULL,
            -- HMAC of user, method, route, path parameters, query and canonical body: tells repeats
            -- from other requests with the same key, and nobody what a password in it was.
            fingerprint bytea NOT NULL,
            -- The first answer, byte for byte.
            status smallint NOT NULL,
            content_type text NOT NULL,
            body bytea NOT NULL,
            location text,
            etag text,
            -- Decides when the key counts as new again, and lets old rows be deleted in batches.
            created_at timestamptz NOT NULL,
            CONSTRAINT pk_idempotency_keys PRIMARY KEY (user_id, key),
            -- The length apart, because counting in a regular expression is slow.
            CONSTRAINT ck_idempotency_keys_key
                CHECK (char_length(key) BETWEEN 1 AND 255 AND key ~ '^[!-~]+$'),
            CONSTRAINT ck_idempotency_keys_fingerprint CHECK (octet_length(fingerprint) = 32),
            -- Success and final refusals are stored; a passing fault never is.
            CONSTRAINT ck_idempotency_keys_status
                CHECK (status BETWEEN 200 AND 299 OR status IN (402, 404, 409))
        )
        """
    )
    op.execute("CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at)")
    # UPDATE only replaces a row that is older than its lifetime.
    grant("SELECT, INSERT, UPDATE, DELETE", "idempotency_keys")
