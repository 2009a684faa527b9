"""Orders and their items."""

from alembic import op

from migrations.privileges import grant

revision = "0022_orders"
down_revision = "0021_catalogue"
branch_labels = None
depends_on = None

ORDERS = """
-- What somebody buys. Everything that it was made of is copied: prices and discounts change.
CREATE TABLE orders (
    id                  uuid CONSTRAINT pk_orders PRIMARY KEY,
    user_id             uuid NOT NULL CONSTRAINT fk_orders_user_id_users REFERENCES users (id),
    -- Tells the side of the payment. Fulfilment is a time of its own.
    status              text NOT NULL CONSTRAINT ck_orders_status CHECK (
        status IN ('placed', 'paid', 'partially_refunded', 'refunded', 'cancelled')),
    -- In credits: the sum of the items, what the discount takes off, and what is to be paid.
    subtotal            bigint NOT NULL,
    discount            bigint NOT NULL,
    total               bigint NOT NULL,
    refunded            bigint NOT NULL DEFAULT 0,
    -- The redemption is given back to it when the order is cancelled.
    discount_id         uuid CONSTRAINT fk_orders_discount_id_discounts REFERENCES discounts (id),
    discount_code       text,
    discount_hundredths integer,
    created_at          timestamptz NOT NULL,
    -- From then on it can't be paid, whether or not a job has cancelled it already.
    expires_at          timestamptz NOT NULL,
    paid_at             timestamptz,
    fulfilled_at        timestamptz,
    cancelled_at        timestamptz,
    cancel_reason       text CONSTRAINT ck_orders_cancel_reason CHECK (
        cancel_reason IN ('by_user', 'by_staff', 'expired')),
    -- The ETag; counts every change.
    version             bigint NOT NULL DEFAULT 1 CONSTRAINT ck_orders_version CHECK (version >= 1),
    -- 2^53-1: larger integers lose digits in JavaScript.
    CONSTRAINT ck_orders_subtotal CHECK (subtotal BETWEEN 0 AND 9007199254740991),
    CONSTRAINT ck_orders_discount CHECK (discount BETWEEN 0 AND subtotal),
    CONSTRAINT ck_orders_total CHECK (total = subtotal - discount),
    CONSTRAINT ck_orders_refunded CHECK (
        CASE status WHEN 'refunded' THEN refunded = total AND total > 0
            WHEN 'partially_refunded' THEN refunded > 0 AND refunded < total
            ELSE refunded = 0 END),
    CONSTRAINT ck_orders_discounted CHECK (
        (discount_id IS NULL) = (discount_code IS NULL)
        AND (discount_id IS NULL) = (discount_hundredths IS NULL)
        AND (discount_id IS NOT NULL OR discount = 0)),
    CONSTRAINT ck_orders_expires_at CHECK (expires_at > created_at),
    CONSTRAINT ck_orders_paid_at CHECK (
        (paid_at IS NOT NULL) = (status IN ('paid', 'partially_refunded', 'refunded'))),
    CONSTRAINT ck_orders_fulfilled_at CHECK (fulfilled_at IS NULL OR paid_at IS NOT NULL),
    CONSTRAINT ck_orders_cancelled_at CHECK (
        (cancelled_at IS NOT NULL) = (status = 'cancelled')
        AND (cancelled_at IS NULL) = (cancel_reason IS NULL))
);
-- The lists: of a user, and of all; newest first.
CREATE INDEX ix_orders_user_id ON orders (user_id, created_at, id);
CREATE INDEX ix_orders_status ON orders (status, created_at, id);
CREATE INDEX ix_orders_created_at ON orders (created_at, id);
-- What runs out next; nearly all orders are paid or cancelled.
CREATE INDEX ix_orders_placed ON orders (expires_at, id) WHERE status = 'placed';

CREATE TABLE order_items (
    order_id   uuid NOT NULL CONSTRAINT fk_order_items_order_id_orders REFERENCES orders (id),
    -- Its place in the request, from 1.
    position   integer NOT NULL CONSTRAINT ck_order_items_position CHECK (
        position BETWEEN 1 AND 100),
    product_id uuid NOT NULL CONSTRAINT fk_order_items_product_id_products
        REFERENCES products (id),
    sku        text NOT NULL,
    name       text NOT NULL,
    unit_price bigint NOT NULL CONSTRAINT ck_order_items_unit_price CHECK (unit_price >= 0),
    quantity   integer NOT NULL CONSTRAINT ck_order_items_quantity CHECK (
        quantity BETWEEN 1 AND 10000),
    total      bigint NOT NULL,
    CONSTRAINT pk_order_items PRIMARY KEY (order_id, position),
    -- A product stands once in an order, with its quantity.
    CONSTRAINT uq_order_items_order_id_product_id UNIQUE (order_id, product_id),
    CONSTRAINT ck_order_items_total CHECK (total = unit_price * quantity)
);
"""

# The transitions stand in app/orders/values.py once more, for people and for messages.
GUARD = """
CREATE FUNCTION guard_order_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (OLD.status = NEW.status OR (OLD.status, NEW.status) IN (
        ('placed', 'paid'), ('placed', 'cancelled'),
        ('paid', 'partially_refunded'), ('paid', 'refunded'), ('partially_refunded', 'refunded')))
    THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_guard',
            MESSAGE = format('an order that is %s does not become %s', OLD.status, NEW.status);
    END IF;
    -- What was agreed stays, what was given back isn't taken again, and what was done is done once.
    IF (OLD.id, OLD.user_id, OLD.subtotal, OLD.discount, OLD.discount_id, OLD.created_at,
            OLD.expires_at)
        IS DISTINCT FROM
        (NEW.id, NEW.user_id, NEW.subtotal, NEW.discount, NEW.discount_id, NEW.created_at,
            NEW.expires_at)
        OR NEW.refunded < OLD.refunded
        OR (OLD.paid_at IS NOT NULL AND NEW.paid_at IS DISTINCT FROM OLD.paid_at)
        OR (OLD.fulfilled_at IS NOT NULL AND NEW.fulfilled_at IS DISTINCT FROM OLD.fulfilled_at)
        OR NEW.version <> OLD.version + 1
    THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_guard',
            MESSAGE = 'an order keeps what it was made of, and counts its changes';
    END IF;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION guard_order_v1() FROM PUBLIC;
CREATE TRIGGER orders_guard BEFORE UPDATE ON orders
    FOR EACH ROW EXECUTE FUNCTION guard_order_v1();
CREATE TRIGGER orders_refuse_delete BEFORE DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER orders_refuse_truncate BEFORE TRUNCATE ON orders
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER order_items_refuse_change BEFORE UPDATE OR DELETE ON order_items
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER order_items_refuse_truncate BEFORE TRUNCATE ON order_items
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
"""

# Of payments and refunds, which alone have one. The foreign key isn't checked for old transfers:
# none has an order. Found by it: what an order was paid and refunded by.
PAID_BY = """
ALTER TABLE transfers ADD CONSTRAINT fk_transfers_order_id_orders
    FOREIGN KEY (order_id) REFERENCES orders (id) NOT VALID
"""


def upgrade() -> None:
    """Create the two tables, empty, and let payments and refunds name an order that there is."""
    for statements in (ORDERS, GUARD, PAID_BY):
        op.execute(statements)
    grant("SELECT, INSERT", "orders, order_items")
    grant(
        "UPDATE (status, refunded, paid_at, fulfilled_at, cancelled_at, cancel_reason, version)",
        "orders",
    )
