"""Holds are locked together before they are ended together."""

from alembic import op

from migrations.privileges import grant_execute

revision = "0026_guards"
down_revision = "0023_orders_valid"
branch_labels = None
depends_on = None

LOCK_HOLDS = """
-- For whoever ends all open holds of an account in one transaction, before the first of them: that
-- one locks the account, and whoever ends another at the same time has locked that hold and waits
-- for the account. In the one order of the system; those that end meanwhile fall out.
CREATE FUNCTION lock_open_holds_v1(p_account_id uuid) RETURNS TABLE (id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT h.id FROM holds h WHERE h.account_id = p_account_id AND h.status = 'held'
    ORDER BY h.id FOR NO KEY UPDATE
$$;
"""


def upgrade() -> None:
    """Add what keeps the rules of the ledger and of orders; nothing that is stored changes."""
    op.execute(LOCK_HOLDS)
    grant_execute("lock_open_holds_v1(uuid)")
