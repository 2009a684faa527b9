"""Login sessions end with the deletion of their user."""

from alembic import op

revision = "0016_deleted_sessions"
down_revision = "0015_life"
branch_labels = None
depends_on = None

LOGIN_SESSIONS = """
ALTER TABLE login_sessions
    DROP CONSTRAINT ck_login_sessions_ended_reason,
    ADD CONSTRAINT ck_login_sessions_ended_reason CHECK (ended_reason IN (
        'logout', 'reuse', 'ended', 'credential', 'suspended', 'staff', 'deleted')) NOT VALID
"""


def upgrade() -> None:
    """Allow one more reason; nothing that is stored changes."""
    op.execute(LOGIN_SESSIONS)
