"""Counters of limits."""

from alembic import op

from migrations.privileges import grant

revision = "0009_rate_limits"
down_revision = "0008_access"
branch_labels = None
depends_on = None

RATE_LIMITS = """
-- Unlogged: counting writes no log and waits for no disk, and after a crash all begins anew.
CREATE UNLOGGED TABLE rate_limits (
    -- HMAC of the limit's name and of whom it counts, so that no address stands here.
    key     bytea NOT NULL,
    -- How much of the limit is taken until then.
    used    integer NOT NULL,
    ends_at timestamptz NOT NULL,
    CONSTRAINT pk_rate_limits PRIMARY KEY (key),
    CONSTRAINT ck_rate_limits_key CHECK (octet_length(key) = 32),
    CONSTRAINT ck_rate_limits_used CHECK (used >= 0)
-- Room for new versions of a row on its own page: most updates then touch no index.
) WITH (fillfactor = 50)
"""


def upgrade() -> None:
    """Create the table of counters, empty."""
    op.execute(RATE_LIMITS)
    # Rows whose time is over are deleted.
    op.execute("CREATE INDEX ix_rate_limits_ends_at ON rate_limits (ends_at)")
    grant("SELECT, INSERT, UPDATE, DELETE", "rate_limits")
