"""What the outside world is to be told, and the jobs that tell it."""

from pathlib import Path

from alembic import op

from migrations.privileges import grant

revision = "0010_jobs"
down_revision = "0009_rate_limits"
branch_labels = None
depends_on = None

PROCRASTINATE = Path(__file__).resolve().parents[1] / "procrastinate-3.10.0.sql"

OUTBOX_EVENTS = """
-- Written in the transaction of the change, taken and deleted by a worker soon after: nearly empty.
CREATE TABLE outbox_events (
    id         uuid NOT NULL,
    -- What is to be done, `feature.what`. The workers know which job that is.
    topic      text NOT NULL,
    -- With what: the id of a row. Personal data stays in that row.
    subject_id uuid NOT NULL,
    -- For people who look at what is left lying, and for the lag.
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_outbox_events PRIMARY KEY (id),
    CONSTRAINT ck_outbox_events_topic CHECK (topic ~ '^[a-z_]+[.][a-z_]+$')
)
"""

JOB_TABLES = "procrastinate_jobs, procrastinate_events, procrastinate_workers"


def upgrade() -> None:
    """Create the outbox and the tables of procrastinate, empty."""
    op.execute(OUTBOX_EVENTS)
    # Without a mail server its events wait here, and the others are looked for beside them.
    op.execute("CREATE INDEX ix_outbox_events_topic ON outbox_events (topic)")
    # Nobody changes an event; but whoever locks a row has to have the right to.
    grant("SELECT, INSERT, DELETE, UPDATE (id)", "outbox_events")
    # Its functions run with the rights of whoever calls them.
    op.execute(PROCRASTINATE.read_text())
    grant("SELECT, INSERT, UPDATE, DELETE", f"{JOB_TABLES}, procrastinate_periodic_defers")
    grant(
        "USAGE",
        "SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq,"
        " procrastinate_workers_id_seq, procrastinate_periodic_defers_id_seq",
    )
