"""Webhooks: whom to tell what, the events that are told, and their deliveries."""

from alembic import op

from migrations.privileges import grant

revision = "0024_webhooks"
down_revision = "0023_orders_valid"
branch_labels = None
depends_on = None

# The house accounts, under the ids that 0006_credits gave them.
ISSUANCE = "00000000-0000-7000-8000-000000000001"
REVENUE = "00000000-0000-7000-8000-000000000002"

WEBHOOKS = """
-- Addresses of apps that want to be told of events. A few rows, read by the triggers below.
CREATE TABLE webhooks (
    id                 uuid CONSTRAINT pk_webhooks PRIMARY KEY,
    url                text NOT NULL CONSTRAINT ck_webhooks_url CHECK (
        char_length(url) BETWEEN 1 AND 2000),
    -- Names of events, or `*` for all of them, those to come too. The code knows the names.
    events             text[] NOT NULL CONSTRAINT ck_webhooks_events CHECK (
        cardinality(events) BETWEEN 1 AND 100),
    -- For the people who keep it.
    description        text CONSTRAINT ck_webhooks_description CHECK (
        char_length(description) BETWEEN 1 AND 500),
    -- Else nothing is told, and what waits already goes on waiting.
    active             boolean NOT NULL,
    -- What signs: it is needed in clear for that, and so is encrypted under a master key.
    secret             bytea NOT NULL CONSTRAINT ck_webhooks_secret CHECK (
        octet_length(secret) > 28),
    master_key_version integer NOT NULL CONSTRAINT ck_webhooks_master_key_version CHECK (
        master_key_version >= 1),
    -- What signed before the last rotation, under the same master key, and until when it signs
    -- beside the new one.
    previous_secret    bytea CONSTRAINT ck_webhooks_previous_secret CHECK (
        octet_length(previous_secret) > 28),
    previous_until     timestamptz,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    CONSTRAINT ck_webhooks_previous CHECK ((previous_secret IS NULL) = (previous_until IS NULL))
);
"""

DELIVERIES = """
-- What has happened and somebody wants to know, once for all webhooks.
CREATE TABLE webhook_events (
    -- That of the outbox's event, and the `webhook-id` of every try: who is told twice knows by it.
    id         uuid CONSTRAINT pk_webhook_events PRIMARY KEY,
    type       text NOT NULL CONSTRAINT ck_webhook_events_type CHECK (
        type ~ '^[a-z_]+[.][a-z_]+$'),
    -- The user, transfer, hold or order that it is about.
    subject_id uuid NOT NULL,
    -- The resource as the API showed it then; json and not jsonb, which would sort its fields.
    data       json NOT NULL,
    created_at timestamptz NOT NULL
);
-- For retention, by which everything goes: deliveries go with their event.
CREATE INDEX ix_webhook_events_created_at ON webhook_events (created_at);
-- For erasure. Only events about users hold personal data.
CREATE INDEX ix_webhook_events_user ON webhook_events (subject_id)
    WHERE starts_with(type, 'user.');

-- One event for one webhook.
CREATE TABLE webhook_deliveries (
    id           uuid CONSTRAINT pk_webhook_deliveries PRIMARY KEY,
    event_id     uuid NOT NULL CONSTRAINT fk_webhook_deliveries_event_id_webhook_events
        REFERENCES webhook_events (id) ON DELETE CASCADE,
    webhook_id   uuid NOT NULL CONSTRAINT fk_webhook_deliveries_webhook_id_webhooks
        REFERENCES webhooks (id) ON DELETE CASCADE,
    status       text NOT NULL CONSTRAINT ck_webhook_deliveries_status CHECK (
        status IN ('pending', 'delivered', 'dead')),
    -- Tries that came to an end, since it was made or replayed.
    attempts     integer NOT NULL DEFAULT 0 CONSTRAINT ck_webhook_deliveries_attempts CHECK (
        attempts >= 0),
    -- When it is due. Whoever tries it puts this off first, so that nobody else does meanwhile, and
    -- so that somebody does if the process dies.
    next_try_at  timestamptz,
    last_try_at  timestamptz,
    -- What the endpoint answered, or why there was no answer: in our words, never in its own.
    last_status  integer CONSTRAINT ck_webhook_deliveries_last_status CHECK (
        last_status BETWEEN 100 AND 999),
    last_error   text CONSTRAINT ck_webhook_deliveries_last_error CHECK (
        last_error ~ '^[a-z_]+$'),
    created_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    CONSTRAINT ck_webhook_deliveries_pending CHECK (
        (status = 'pending') = (next_try_at IS NOT NULL)
        AND (status = 'pending') = (ended_at IS NULL)),
    -- Whatever happens to a worker, one event is one delivery to a webhook. Deleting an event looks
    -- for its deliveries by it, too.
    CONSTRAINT uq_webhook_deliveries_event_id_webhook_id UNIQUE (event_id, webhook_id)
);
-- The lists: of a webhook, and of its pending or dead ones; newest first.
CREATE INDEX ix_webhook_deliveries_webhook_id
    ON webhook_deliveries (webhook_id, created_at, id);
CREATE INDEX ix_webhook_deliveries_status
    ON webhook_deliveries (webhook_id, status, created_at, id);
-- What is due next.
CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (webhook_id, next_try_at)
    WHERE status = 'pending';
"""

OUTBOX = """
-- What an event tells: the resource as the API shows it at that moment. Empty for the events that
-- only name a row. Rows with personal data (about users) are gone within a second, or by erasure.
ALTER TABLE outbox_events ADD COLUMN data json;
"""

# The triggers tell, and not the application: so whoever changes a row tells of it, old code and
# commands too, a transfer needs no further round trip, and what is rolled back tells nothing.
TELLING = """
-- Whether anybody wants to know: of a handful of rows, before anything else is done. All of these
-- are in PL/pgSQL, which keeps its plans: SQL would plan them anew in each transaction.
CREATE FUNCTION is_awaited_v1(p_event text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM webhooks WHERE active AND events && ARRAY[p_event, '*']);
END $$;
REVOKE ALL ON FUNCTION is_awaited_v1(text) FROM PUBLIC;

-- The id is random: it is that of no row which anybody would look for by its time.
CREATE FUNCTION tell_v1(p_event text, p_subject_id uuid, p_data json, p_at timestamptz)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO outbox_events (id, topic, subject_id, data, created_at)
    VALUES (gen_random_uuid(), p_event, p_subject_id, p_data, p_at);
END $$;
REVOKE ALL ON FUNCTION tell_v1(text, uuid, json, timestamptz) FROM PUBLIC;

-- A time as the API writes it.
CREATE FUNCTION shown_time_v1(p_time timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN replace(to_char(p_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        '.000000Z', 'Z');
END $$;
REVOKE ALL ON FUNCTION shown_time_v1(timestamptz) FROM PUBLIC;

-- An order with its items, as the API shows it.
CREATE FUNCTION shown_order_v1(p_order orders) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN json_build_object(
        'id', p_order.id, 'user_id', p_order.user_id, 'status', p_order.status,
        'subtotal', p_order.subtotal, 'discount', p_order.discount, 'total', p_order.total,
        'refunded', p_order.refunded,
        'created_at', shown_time_v1(p_order.created_at),
        'expires_at', shown_time_v1(p_order.expires_at),
        'paid_at', shown_time_v1(p_order.paid_at),
        'fulfilled_at', shown_time_v1(p_order.fulfilled_at),
        'cancelled_at', shown_time_v1(p_order.cancelled_at),
        'cancel_reason', p_order.cancel_reason,
        'items', (
            SELECT json_agg(json_build_object(
                'product_id', product_id, 'sku', sku, 'name', name, 'unit_price', unit_price,
                'quantity', quantity, 'total', total) ORDER BY position)
            FROM order_items WHERE order_id = p_order.id));
END $$;
REVOKE ALL ON FUNCTION shown_order_v1(orders) FROM PUBLIC;
"""

TRANSFERS = f"""
-- Of a payment its order tells, and of what somebody forfeits, that they were deleted.
CREATE FUNCTION tell_of_transfer_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    event text := CASE NEW.kind
        WHEN 'grant' THEN 'credits.granted' WHEN 'transfer' THEN 'credits.transferred'
        WHEN 'charge' THEN 'credits.charged' WHEN 'reversal' THEN 'credits.reversed'
        WHEN 'refund' THEN 'order.refunded' END;
BEGIN
    IF event IS NULL OR NOT is_awaited_v1(event) THEN
        RETURN NULL;
    END IF;
    IF NEW.kind = 'refund' THEN
        -- Here and not where the order changes, because a refund has its time here.
        PERFORM tell_v1(event, orders.id, shown_order_v1(orders), NEW.created_at)
        FROM orders WHERE id = NEW.order_id;
        RETURN NULL;
    END IF;
    -- The account of a user has the user's id; that of the house is nobody's.
    PERFORM tell_v1(event, NEW.id, json_build_object(
        'id', NEW.id, 'kind', NEW.kind,
        'from_user_id', CASE WHEN NEW.from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            THEN NEW.from_account_id END,
        'to_user_id', CASE WHEN NEW.to_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            THEN NEW.to_account_id END,
        'amount', NEW.amount, 'memo', NEW.memo, 'reverses_id', NEW.reverses_id,
        'order_id', NEW.order_id, 'created_at', shown_time_v1(NEW.created_at)
    ), NEW.created_at);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION tell_of_transfer_v1() FROM PUBLIC;
CREATE TRIGGER transfers_tell AFTER INSERT ON transfers
    FOR EACH ROW EXECUTE FUNCTION tell_of_transfer_v1();
"""

HOLDS = """
CREATE FUNCTION tell_of_hold_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    event text := CASE NEW.status WHEN 'held' THEN 'hold.placed' ELSE 'hold.' || NEW.status END;
BEGIN
    IF is_awaited_v1(event) THEN
        PERFORM tell_v1(event, NEW.id, json_build_object(
            'id', NEW.id, 'user_id', NEW.account_id, 'amount', NEW.amount,
            'captured', NEW.captured, 'status', NEW.status,
            'expires_at', shown_time_v1(NEW.expires_at), 'memo', NEW.memo,
            'created_at', shown_time_v1(NEW.created_at)
        ), coalesce(NEW.ended_at, NEW.created_at));
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION tell_of_hold_v1() FROM PUBLIC;
-- `holds_guard` lets a status change once.
CREATE TRIGGER holds_tell AFTER INSERT OR UPDATE OF status ON holds
    FOR EACH ROW EXECUTE FUNCTION tell_of_hold_v1();
"""

ORDERS = """
CREATE FUNCTION tell_of_order_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    event text;
    at timestamptz;
BEGIN
    IF TG_OP = 'INSERT' THEN
        event := 'order.placed'; at := NEW.created_at;
    ELSIF OLD.paid_at IS NULL AND NEW.paid_at IS NOT NULL THEN
        event := 'order.paid'; at := NEW.paid_at;
    ELSIF OLD.cancelled_at IS NULL AND NEW.cancelled_at IS NOT NULL THEN
        event := 'order.cancelled'; at := NEW.cancelled_at;
    ELSIF OLD.fulfilled_at IS NULL AND NEW.fulfilled_at IS NOT NULL THEN
        event := 'order.fulfilled'; at := NEW.fulfilled_at;
    END IF;
    IF event IS NOT NULL AND is_awaited_v1(event) THEN
        PERFORM tell_v1(event, NEW.id, shown_order_v1(NEW), at);
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION tell_of_order_v1() FROM PUBLIC;
-- Deferred to the commit, because an order's items come after it.
CREATE CONSTRAINT TRIGGER orders_tell AFTER INSERT OR UPDATE ON orders
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tell_of_order_v1();
"""

USERS = """
CREATE FUNCTION tell_of_user_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    event text;
    shown json;
BEGIN
    IF TG_OP = 'INSERT' THEN
        event := 'user.created';
    ELSIF OLD.status <> NEW.status THEN
        event := CASE NEW.status WHEN 'active' THEN 'user.reinstated'
            WHEN 'suspended' THEN 'user.suspended' WHEN 'deleting' THEN 'user.deleted'
            ELSE 'user.erased' END;
    ELSIF (OLD.email, OLD.email_verified, OLD.name, OLD.roles)
        IS DISTINCT FROM (NEW.email, NEW.email_verified, NEW.name, NEW.roles)
    THEN
        event := 'user.updated';
    END IF;
    IF event IS NULL OR NOT is_awaited_v1(event) THEN
        RETURN NULL;
    END IF;
    IF NEW.status = 'erased' THEN
        -- What is left of a user is an id.
        shown := json_build_object('id', NEW.id);
    ELSE
        shown := json_build_object(
            'id', NEW.id, 'email', NEW.email, 'email_verified', NEW.email_verified,
            'name', NEW.name, 'roles', array_prepend('user', NEW.roles),
            -- A suspension whose time is over counts as over, though nobody has written it.
            'status', CASE WHEN NEW.status = 'suspended' AND NEW.suspended_until <= NEW.updated_at
                THEN 'active' ELSE NEW.status END,
            'created_at', shown_time_v1(NEW.created_at),
            'updated_at', shown_time_v1(NEW.updated_at));
    END IF;
    PERFORM tell_v1(event, NEW.id, shown, NEW.updated_at);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION tell_of_user_v1() FROM PUBLIC;
-- Not of what the API doesn't show: a password's hash is another one now and then.
CREATE TRIGGER users_tell AFTER INSERT OR UPDATE OF email, email_verified, name, roles, status
    ON users FOR EACH ROW EXECUTE FUNCTION tell_of_user_v1();
"""


def upgrade() -> None:
    """Create the tables, empty, and let the rest tell what happens to those who want to know."""
    for statements in (WEBHOOKS, DELIVERIES, OUTBOX, TELLING, TRANSFERS, HOLDS, ORDERS, USERS):
        op.execute(statements)
    grant("SELECT, INSERT, DELETE", "webhooks, webhook_events")
    grant(
        "UPDATE (url, events, description, active, secret, master_key_version, previous_secret,"
        " previous_until, updated_at)",
        "webhooks",
    )
    # They go with their event or their webhook.
    grant("SELECT, INSERT", "webhook_deliveries")
    grant(
        "UPDATE (status, attempts, next_try_at, last_try_at, last_status, last_error, ended_at)",
        "webhook_deliveries",
    )
