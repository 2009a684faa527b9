"""Transfers name orders that there are: read the old ones, and find them by their order."""

from alembic import op

revision = "0023_orders_valid"
down_revision = "0022_orders"
branch_labels = None
depends_on = None

# Beside whatever else goes on, as in 0014 and 0018.
VALID = "ALTER TABLE transfers VALIDATE CONSTRAINT fk_transfers_order_id_orders"
INDEX = "ix_transfers_order_id ON transfers (order_id) WHERE order_id IS NOT NULL"


def upgrade() -> None:
    """Read every transfer once, and build an index of those that have an order."""
    with op.get_context().autocommit_block():
        op.execute(VALID)
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX.split()[0]}")
        op.execute(f"CREATE INDEX CONCURRENTLY {INDEX}")
