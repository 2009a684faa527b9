"""${message}."""

from alembic import op

from migrations.privileges import grant

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what is there afterwards."""
    ${upgrades if upgrades else "pass"}
