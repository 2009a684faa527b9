"""The rule about the traces of events holds for all of them."""

from alembic import op

revision = "0029_trace_valid"
down_revision = "0028_trace"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Read every event once, beside whatever else goes on, as in 0014 and 0018."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE outbox_events VALIDATE CONSTRAINT ck_outbox_events_traceparent")
