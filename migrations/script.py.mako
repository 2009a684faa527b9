"""${message}."""

from alembic import op

from migrations.privileges import grant

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Say what is there afterwards."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Say what is lost."""
    ${downgrades if downgrades else "pass"}
