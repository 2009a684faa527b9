"""The end of a user's life: deletion, erasure and exports.

What it needs of other tables comes in steps of their own. One that held locks on several tables in
use would wait for requests that wait for it.
"""

from alembic import op

from migrations.privileges import grant

revision = "0015_life"
down_revision = "0014_charges_valid"
branch_labels = None
depends_on = None

# Nothing has written that status before. Should somebody have it all the same, their days are
# counted from their last change.
USERS = """
ALTER TABLE users
    -- When the deletion began, from which the days are counted until it can't be undone any more.
    -- Null: nobody deletes this user.
    ADD COLUMN deleting_since timestamptz;
UPDATE users SET deleting_since = updated_at WHERE status = 'deleting';
ALTER TABLE users
    ADD CONSTRAINT ck_users_deleting_since CHECK (
        (status = 'deleting') = (deleting_since IS NOT NULL)
    ) NOT VALID
"""

EXPORTS = """
-- Everything about a user in one archive, made in the background for that user alone.
CREATE TABLE exports (
    -- In the address that it is fetched from.
    id         uuid NOT NULL,
    -- Whose it is: nobody else gets it.
    user_id    uuid NOT NULL,
    -- The archive: JSON, compressed with gzip. Null: not made yet.
    content    bytea,
    created_at timestamptz NOT NULL,
    made_at    timestamptz,
    -- Nobody gets it after this, and it is deleted.
    expires_at timestamptz NOT NULL,
    CONSTRAINT pk_exports PRIMARY KEY (id),
    CONSTRAINT fk_exports_user_id_users FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT ck_exports_made_at CHECK ((content IS NULL) = (made_at IS NULL))
)
"""

INDEXES = (
    # What erasure deletes, among them the keys that their owner has deleted. The table is new.
    "CREATE INDEX ix_api_keys_user_id ON api_keys (user_id)",
    # One at a time for each user: who asks again meanwhile gets the same one.
    "CREATE UNIQUE INDEX uq_exports_pending ON exports (user_id) WHERE made_at IS NULL",
    "CREATE INDEX ix_exports_user_id ON exports (user_id)",
    "CREATE INDEX ix_exports_expires_at ON exports (expires_at)",
)


def upgrade() -> None:
    """Extend users; create the table of exports, empty."""
    for statement in (USERS, EXPORTS, *INDEXES):
        op.execute(statement)
    grant("UPDATE (deleting_since)", "users")
    grant("SELECT, INSERT, DELETE", "exports")
    # A failed attempt may be made again; owner and beginning never change.
    grant("UPDATE (content, made_at, expires_at)", "exports")
    # Erasure and retention. The personal part of an event still can't be updated.
    grant("DELETE", "audit_personal, login_sessions, api_keys")
