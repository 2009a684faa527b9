"""Guards of the books and of orders: nothing past the freeze, no order that begins half done."""

from alembic import op

from migrations.privileges import grant_execute

revision = "0026_guards"
down_revision = "0025_shown_answers"
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

FREEZE = """
-- What the tables themselves ask before the books are changed, whoever does it: also the functions
-- of earlier releases, which know of no freeze. Until its transaction ends, it shares a lock with
-- all others who change the books, and a freeze waits for it: see await_postings_v1. The look comes
-- after the lock and in a statement of its own, or what it sees would be from before. The functions
-- still begin with refuse_frozen_v1, so that nobody waits for an account just to be refused.
CREATE FUNCTION refuse_frozen_books_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4201975);
    IF EXISTS (SELECT FROM ledger_state WHERE frozen_at IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'AC503', MESSAGE = 'the ledger is frozen',
            TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION refuse_frozen_books_v1() FROM PUBLIC;
-- Once a statement, for there is nothing about a row to ask. Entries, deltas and balances never
-- change without one of these two.
CREATE TRIGGER transfers_refuse_frozen BEFORE INSERT ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_frozen_books_v1();
CREATE TRIGGER holds_refuse_frozen BEFORE INSERT OR UPDATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_frozen_books_v1();

-- Returns when all that was changing the books is over. Whoever has set the state before, in a
-- transaction of its own, knows that nothing comes any more.
CREATE FUNCTION await_postings_v1() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT pg_advisory_xact_lock(4201975)
$$;

-- fold_deltas_v1, which is left alone while the books are frozen: whoever looks for what went wrong
-- finds it all.
CREATE FUNCTION fold_deltas_v2(p_most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4201975);
    PERFORM refuse_frozen_v1();
    RETURN fold_deltas_v1(p_most);
END $$;
"""

KNOWN = """
-- What the last check found, in words that stay the same while others go on posting: what a freeze
-- was lifted in spite of doesn't freeze the books again. Up to a thousand; where there is more,
-- nothing is known.
ALTER TABLE ledger_state ADD COLUMN known_differences text[] NOT NULL DEFAULT '{}'
    CONSTRAINT ck_ledger_state_known_differences CHECK (cardinality(known_differences) <= 1000);

-- note_ledger_check_v1 with that.
CREATE FUNCTION note_ledger_check_v2(
    p_at timestamptz, p_seconds double precision, p_found bigint, p_known text[]
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE ledger_state SET checked_at = p_at, check_seconds = p_seconds, differences = p_found,
        known_differences = p_known
$$;
"""

ORDERS = """
CREATE FUNCTION guard_new_order_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- All that comes later is a change, which the other guard looks at; ck_orders_paid_at and
    -- ck_orders_cancelled_at say of the times what these say of the status.
    IF (NEW.status, NEW.version, NEW.refunded) <> ('placed', 1, 0) OR NEW.fulfilled_at IS NOT NULL
    THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_guard_new',
            MESSAGE = 'an order begins as placed, with nothing done about it yet';
    END IF;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION guard_new_order_v1() FROM PUBLIC;
CREATE TRIGGER orders_guard_new BEFORE INSERT ON orders
    FOR EACH ROW EXECUTE FUNCTION guard_new_order_v1();

-- What app/orders/pricing.py takes off: whole credits, rounded half up. NOT VALID, as in 0019.
ALTER TABLE orders ADD CONSTRAINT ck_orders_discount_rounded CHECK (
    discount = div(subtotal::numeric * coalesce(discount_hundredths, 0) + 5000, 10000)) NOT VALID;
"""

FUNCTIONS = (
    "lock_open_holds_v1(uuid)",
    "await_postings_v1()",
    "fold_deltas_v2(integer)",
    "note_ledger_check_v2(timestamptz, double precision, bigint, text[])",
)


def upgrade() -> None:
    """Add what keeps the rules of the ledger and of orders; nothing that is stored changes."""
    for statements in (LOCK_HOLDS, FREEZE, KNOWN, ORDERS):
        op.execute(statements)
    for function in FUNCTIONS:
        grant_execute(function)
