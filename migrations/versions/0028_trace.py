"""Events say which trace they belong to, so that their jobs can be seen beside the request."""

from alembic import op

revision = "0028_trace"
down_revision = "0027_guards_valid"
branch_labels = None
depends_on = None

# The place in a trace that caused the event, as W3C Trace Context writes it; a job goes on from
# there. Null for what nobody follows, and for all that a version without it leaves.
COLUMN = "ALTER TABLE outbox_events ADD COLUMN traceparent text"

# A client may have chosen it, and it is passed on to others: nothing but hex digits, so many of
# them. NOT VALID spares reading the rows, which are all null, under a lock that nobody gets past.
RULE = """
ALTER TABLE outbox_events ADD CONSTRAINT ck_outbox_events_traceparent
    CHECK (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$') NOT VALID
"""


def upgrade() -> None:
    """Add the column, and its rule for what is written from now on."""
    op.execute(COLUMN)
    op.execute(RULE)
