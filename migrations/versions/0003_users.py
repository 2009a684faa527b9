"""Users."""

from alembic import op

from migrations.privileges import grant

revision = "0003_users"
down_revision = "0002_keys"
branch_labels = None
depends_on = None

USERS = """
CREATE TABLE users (
    id                   uuid NOT NULL,
    -- As the user spells it; shown and written to, never looked up.
    email                text NOT NULL,
    -- NFKC, case-folded, IDNA: one mailbox has one key, so "A@x.org" and "a@x.org" are one.
    email_key            text NOT NULL,
    email_verified       boolean NOT NULL,
    name                 text NOT NULL,
    -- All substrings of 1 to 3 characters of the folded name. An index over them narrows a search
    -- for a part of a name without an extension; ILIKE decides.
    name_grams           text[] NOT NULL,
    -- argon2id in its modular form, with its parameters.
    password_hash        text NOT NULL,
    -- Roles beyond `user`, which everybody has. An array and no table: a role has no data of its
    -- own, and each request reads them in the one row that it reads anyway.
    roles                text[] NOT NULL,
    status               text NOT NULL,
    -- Null: until somebody reinstates the user.
    suspended_until      timestamptz,
    -- Login sessions begun before this don't count. Null: there was no such moment.
    sessions_valid_after timestamptz,
    -- The ETag; counts changes of what the API shows.
    version              bigint NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_email_key UNIQUE (email_key),
    CONSTRAINT ck_users_email CHECK (char_length(email) BETWEEN 3 AND 254),
    CONSTRAINT ck_users_email_key CHECK (char_length(email_key) BETWEEN 3 AND 320),
    CONSTRAINT ck_users_name CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT ck_users_roles CHECK (
        roles <@ ARRAY['support', 'finance', 'service', 'admin']
        AND array_position(roles, NULL) IS NULL
    ),
    CONSTRAINT ck_users_status CHECK (status IN ('active', 'suspended', 'deleting', 'erased')),
    CONSTRAINT ck_users_suspended_until CHECK (suspended_until IS NULL OR status = 'suspended'),
    CONSTRAINT ck_users_version CHECK (version >= 1)
)
"""

INDEXES = (
    # The order of the list.
    "CREATE INDEX ix_users_created_at_id ON users (created_at, id)",
    "CREATE INDEX ix_users_name_grams ON users USING gin (name_grams)",
    "CREATE INDEX ix_users_roles ON users USING gin (roles)",
    # Nearly everybody is active: that filter walks the list's order, the others walk this.
    """
    CREATE INDEX ix_users_status_created_at_id ON users (status, created_at, id)
        WHERE status <> 'active'
    """,
)


def upgrade() -> None:
    """Create the table of users, empty."""
    op.execute(USERS)
    for statement in INDEXES:
        op.execute(statement)
    grant("SELECT, INSERT", "users")
    # A login with old hash parameters renews the hash. The privilege also carries the row lock
    # under which a login session begins.
    grant("UPDATE (password_hash)", "users")
