"""The old transfers are held to the rule about their sides, too."""

from alembic import op

revision = "0014_charges_valid"
down_revision = "0013_charges"
branch_labels = None
depends_on = None

# A transaction of its own: the one that brought the rule locks the table out of use, and this one
# only against other changes of it. It finds nothing: the rule is as before for the kinds of
# transfers that there were, and of the new ones only those have been written that keep it.
VALID = "ALTER TABLE transfers VALIDATE CONSTRAINT ck_transfers_sides"


def upgrade() -> None:
    """Read every transfer once, beside whatever else goes on; nothing that is stored changes."""
    op.execute(VALID)
