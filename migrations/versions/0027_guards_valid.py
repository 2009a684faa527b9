"""The old orders are held to the new rule, and every foreign key has an index."""

from alembic import op

revision = "0027_guards_valid"
down_revision = "0026_guards"
branch_labels = None
depends_on = None

# Beside whatever else goes on, as in 0018 and 0020.
VALID = "ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_discount_rounded"
INDEXES = (
    # One payment for an order, and one charge for a hold. The locks on them see to that already;
    # these do when somebody takes none.
    "UNIQUE INDEX|uq_transfers_payment ON transfers (order_id) WHERE kind = 'payment'",
    "UNIQUE INDEX|uq_transfers_hold_id ON transfers (hold_id) WHERE hold_id IS NOT NULL",
    # Who asks where a product or a discount was used would read every order without them.
    "INDEX|ix_order_items_product_id ON order_items (product_id)",
    "INDEX|ix_orders_discount_id ON orders (discount_id) WHERE discount_id IS NOT NULL",
)


def upgrade() -> None:
    """Read every order once, and build each index outside of a transaction.

    An attempt that broke off left an index that is no good: such a one is dropped and built anew.
    """
    with op.get_context().autocommit_block():
        op.execute(VALID)
        # They wait for every transaction that is open, and hinder nobody meanwhile.
        op.execute("SET lock_timeout = 0")
        for index in INDEXES:
            kind, definition = index.split("|")
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {definition.split()[0]}")
            op.execute(f"CREATE {kind} CONCURRENTLY {definition}")
        op.execute("RESET lock_timeout")
