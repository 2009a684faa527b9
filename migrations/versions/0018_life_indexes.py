"""Indexes and checks on tables in use, built beside whatever else goes on."""

from alembic import op

revision = "0018_life_indexes"
down_revision = "0017_audit_times"
branch_labels = None
depends_on = None

# They find nothing: the rules are as before for the rows that there were.
CHECKS = (
    "ALTER TABLE users VALIDATE CONSTRAINT ck_users_deleting_since",
    "ALTER TABLE login_sessions VALIDATE CONSTRAINT ck_login_sessions_ended_reason",
)

INDEXES = (
    # Whose days are over. Nearly nobody is being deleted.
    "ix_users_deleting_since ON users (deleting_since, id) WHERE deleting_since IS NOT NULL",
    # Whether a sign-in looks like an earlier one; also all that erasure deletes.
    "ix_login_sessions_user_id ON login_sessions (user_id, device, address)",
    # By their beginning, which never changes: an index by their end would have to be changed by
    # each refresh.
    "ix_login_sessions_created_at ON login_sessions (created_at)",
    "ix_audit_personal_created_at ON audit_personal (created_at)",
    # Those without a time, until the last of them is gone.
    "ix_audit_personal_undated ON audit_personal (event_id) WHERE created_at IS NULL",
    # Answers that show a user's data to somebody else, which erasure looks through: few have a
    # version.
    "ix_idempotency_keys_versioned ON idempotency_keys (created_at) WHERE etag IS NOT NULL",
)


def upgrade() -> None:
    """Build each outside of a transaction. An attempt that broke off left an index that is no good.

    Such a one is dropped and built anew.
    """
    with op.get_context().autocommit_block():
        for statement in CHECKS:
            op.execute(statement)
        for index in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.split()[0]}")
            op.execute(f"CREATE INDEX CONCURRENTLY {index}")
