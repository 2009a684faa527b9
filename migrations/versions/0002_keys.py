"""Signing keys of access tokens."""

from alembic import op

from migrations.privileges import grant

revision = "0002_keys"
down_revision = "0001_audit"
branch_labels = None
depends_on = None

SIGNING_KEYS = """
-- Ed25519 key pairs (RFC 8037), so there is no column for the algorithm.
CREATE TABLE signing_keys (
    -- The `kid` of tokens and of the published key set.
    id                 uuid NOT NULL,
    -- published: known to clients, doesn't sign yet. active: signs. retiring: still verifies.
    -- revoked: verifies nothing from now on. A key that nobody needs any more is deleted.
    state              text NOT NULL,
    -- The 32 raw bytes of the public key.
    public_key         bytea NOT NULL,
    -- AES-256-GCM: 12 bytes of nonce, 32 of key, 16 of tag; the id is authenticated with it, so
    -- that a row's secret can't be moved under another id.
    private_key        bytea NOT NULL,
    -- Which master key encrypted it: master keys rotate too.
    master_key_version integer NOT NULL,
    created_at         timestamptz NOT NULL,
    -- When it began to sign; a retiring key's end is counted from the next one's beginning.
    activated_at       timestamptz,
    CONSTRAINT pk_signing_keys PRIMARY KEY (id),
    CONSTRAINT ck_signing_keys_state
        CHECK (state IN ('published', 'active', 'retiring', 'revoked')),
    CONSTRAINT ck_signing_keys_public_key CHECK (octet_length(public_key) = 32),
    CONSTRAINT ck_signing_keys_private_key CHECK (octet_length(private_key) = 60),
    CONSTRAINT ck_signing_keys_activated_at CHECK (state <> 'active' OR activated_at IS NOT NULL)
)
"""

# Two active keys would be a race between two rotations: the second one fails here.
ONE_ACTIVE = (
    "CREATE UNIQUE INDEX uq_signing_keys_active ON signing_keys (state) WHERE state = 'active'"
)


def upgrade() -> None:
    """Create the table of signing keys, empty."""
    op.execute(SIGNING_KEYS)
    op.execute(ONE_ACTIVE)
    # The service itself makes the first key, on first need.
    grant("SELECT, INSERT", "signing_keys")
