"""The personal part of an event has a time, for retention."""

from alembic import op

revision = "0017_audit_times"
down_revision = "0016_deleted_sessions"
branch_labels = None
depends_on = None

AUDIT_PERSONAL = """
ALTER TABLE audit_personal
    -- When it was written, from which its days are counted. Null: written by a release that didn't
    -- know this column; the time of the event counts then. Those rows aren't filled in, because
    -- these are never updated, not even here.
    ADD COLUMN created_at timestamptz
"""


def upgrade() -> None:
    """Add the column; no row is rewritten."""
    op.execute(AUDIT_PERSONAL)
