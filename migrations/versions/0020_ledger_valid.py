"""The old transfers are held to the new rules, too."""

from alembic import op

revision = "0020_ledger_valid"
down_revision = "0019_ledger"
branch_labels = None
depends_on = None

# A transaction of its own, as in 0014: this locks the table only against other changes of it. It
# finds nothing: no transfer of a new kind was ever written, and the old ones kept these rules.
VALID = """
ALTER TABLE transfers
    VALIDATE CONSTRAINT ck_transfers_sides,
    VALIDATE CONSTRAINT ck_transfers_order,
    VALIDATE CONSTRAINT ck_transfers_reverses,
    VALIDATE CONSTRAINT ck_transfers_hold,
    VALIDATE CONSTRAINT fk_transfers_hold_id_holds
"""


def upgrade() -> None:
    """Read every transfer once, beside whatever else goes on; nothing that is stored changes."""
    op.execute(VALID)
