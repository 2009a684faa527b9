"""Rotation of signing keys."""

from alembic import op

from migrations.privileges import grant

revision = "0007_signing_keys"
down_revision = "0006_credits"
branch_labels = None
depends_on = None

RETIRED_AT = """
ALTER TABLE signing_keys
    -- When it stopped signing: its tokens run out one lifetime later, and the key is deleted.
    ADD COLUMN retired_at timestamptz,
    ADD CONSTRAINT ck_signing_keys_retired_at
        CHECK (state <> 'retiring' OR retired_at IS NOT NULL)
"""


def upgrade() -> None:
    """Let the service rotate its keys by itself; no key has been retired so far."""
    op.execute(RETIRED_AT)
    # States move on, and a private part is encrypted anew under a new master key. The public part
    # never changes.
    grant(
        "UPDATE (state, activated_at, retired_at, private_key, master_key_version)", "signing_keys"
    )
    grant("DELETE", "signing_keys")
