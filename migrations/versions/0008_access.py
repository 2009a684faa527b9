"""Known devices, more reasons to end a login session, suspension and roles."""

from alembic import op

from migrations.privileges import grant

revision = "0008_access"
down_revision = "0007_signing_keys"
branch_labels = None
depends_on = None

LOGIN_SESSIONS = """
ALTER TABLE login_sessions
    -- The same for all login sessions of one device that showed its device token. Null: begun
    -- before there were device tokens; the login session's own id counts then.
    ADD COLUMN device_id uuid,
    DROP CONSTRAINT ck_login_sessions_ended_reason,
    ADD CONSTRAINT ck_login_sessions_ended_reason CHECK (
        ended_reason IN ('logout', 'reuse', 'ended', 'credential', 'suspended', 'staff')
    )
"""

# A user's login sessions that haven't ended, newest first. In place of the index over all of them:
# nobody lists those that have ended, and who signs in each minute has thousands.
LIVE = """
CREATE INDEX ix_login_sessions_live ON login_sessions (user_id, created_at, id)
    WHERE ended_at IS NULL
"""

# Ending all login sessions ends each of them by its row. A moment before which none counts would
# let those live that began on a machine whose clock was ahead.
USERS = """
ALTER TABLE users
    DROP COLUMN sessions_valid_after,
    -- Device tokens from before it don't count any more: whoever knew the old password could have
    -- made many. Null: it is still the first one.
    ADD COLUMN password_changed_at timestamptz
"""

# Whoever changes a row, with the service or without it: one active administrator always stays.
KEEP_AN_ADMIN = """
CREATE FUNCTION keep_an_admin_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- One at a time: two administrators who demote each other at once would each still see the
    -- other. The number names this lock and nothing else.
    PERFORM pg_advisory_xact_lock(4201974);
    -- A statement of its own, so that it sees what the previous holder of the lock has committed.
    IF NOT EXISTS (
        SELECT FROM users WHERE roles @> ARRAY['admin']
            AND (status = 'active' OR (status = 'suspended' AND suspended_until <= NEW.updated_at))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'users_keep_an_admin',
            MESSAGE = 'the last active administrator stays one';
    END IF;
    RETURN NULL;
END
$$
"""

# Also where the administrator was suspended: the suspension's time may be over.
TRIGGER = """
CREATE TRIGGER users_keep_an_admin AFTER UPDATE OF roles, status, suspended_until ON users
    FOR EACH ROW
    WHEN (
        OLD.roles @> ARRAY['admin'] AND NOT (NEW.roles @> ARRAY['admin'] AND NEW.status = 'active')
    )
    EXECUTE FUNCTION keep_an_admin_v1()
"""


def upgrade() -> None:
    """Extend login sessions and users; nothing that is stored changes."""
    op.execute(LOGIN_SESSIONS)
    op.execute(LIVE)
    op.execute("DROP INDEX ix_login_sessions_user_id")
    op.execute(USERS)
    op.execute(KEEP_AN_ADMIN)
    op.execute(TRIGGER)
    # Suspension, and roles.
    grant(
        "UPDATE (roles, status, suspended_until, password_changed_at, version, updated_at)", "users"
    )
