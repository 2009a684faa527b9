"""Login sessions."""

from alembic import op

from migrations.privileges import grant

revision = "0004_auth"
down_revision = "0003_users"
branch_labels = None
depends_on = None

LOGIN_SESSIONS = """
-- One signed-in device; one family of refresh tokens, none of which is stored.
CREATE TABLE login_sessions (
    id           uuid NOT NULL,
    user_id      uuid NOT NULL,
    -- The number of the refresh token that is good now. Rotation is one UPDATE that compares it.
    generation   bigint NOT NULL,
    -- When the client showed that it has the current generation. Null: its answer may be lost, and
    -- the generation before is still taken.
    confirmed_at timestamptz,
    -- Goes into the key of the refresh tokens: a stolen master key alone makes none.
    salt         bytea NOT NULL,
    -- The user agent in short and the network address at sign-in, for the user's own eyes.
    device       text,
    address      text,
    created_at   timestamptz NOT NULL,
    -- The last sign-in or refresh. Not each request: that would be a write on every read.
    last_used_at timestamptz NOT NULL,
    -- The earlier of the idle limit, counted from last_used_at, and the absolute one.
    expires_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    ended_reason text,
    CONSTRAINT pk_login_sessions PRIMARY KEY (id),
    CONSTRAINT fk_login_sessions_user_id_users FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT ck_login_sessions_generation CHECK (generation >= 1),
    CONSTRAINT ck_login_sessions_salt CHECK (octet_length(salt) = 16),
    CONSTRAINT ck_login_sessions_device CHECK (char_length(device) BETWEEN 1 AND 200),
    CONSTRAINT ck_login_sessions_ended CHECK ((ended_at IS NULL) = (ended_reason IS NULL)),
    CONSTRAINT ck_login_sessions_ended_reason CHECK (ended_reason IN ('logout', 'reuse'))
)
"""

# A user's login sessions, newest first; also serves the foreign key.
INDEX = "CREATE INDEX ix_login_sessions_user_id ON login_sessions (user_id, created_at, id)"


def upgrade() -> None:
    """Create the table of login sessions, empty."""
    op.execute(LOGIN_SESSIONS)
    op.execute(INDEX)
    grant("SELECT, INSERT", "login_sessions")
    # Rotation, confirmation and end. Owner, salt and beginning never change.
    grant(
        "UPDATE (generation, confirmed_at, last_used_at, expires_at, ended_at, ended_reason)",
        "login_sessions",
    )
