"""Payments, refunds, reversals, holds, batches, folding and the freeze."""

from alembic import op

from migrations.privileges import grant, grant_execute

revision = "0019_ledger"
down_revision = "0018_life_indexes"
branch_labels = None
depends_on = None

# The house accounts, under the ids that 0006_credits gave them.
ISSUANCE = "00000000-0000-7000-8000-000000000001"
REVENUE = "00000000-0000-7000-8000-000000000002"

STATE = """
-- One row: whether the books may be written, and what was found when they were last checked.
CREATE TABLE ledger_state (
    -- The row's only possible key, so that there is never a second one.
    id smallint CONSTRAINT pk_ledger_state PRIMARY KEY
        CONSTRAINT ck_ledger_state_id CHECK (id = 1),
    -- Since when nothing may be posted; empty: it may.
    frozen_at timestamptz,
    -- The first differences, in sentences for whoever has to find out.
    frozen_reason text,
    -- When the last check in the background began, how long it took, and how many differences it
    -- found. Empty before the first.
    checked_at timestamptz,
    check_seconds double precision CONSTRAINT ck_ledger_state_check_seconds CHECK (
        check_seconds >= 0),
    differences bigint CONSTRAINT ck_ledger_state_differences CHECK (differences >= 0),
    CONSTRAINT ck_ledger_state_frozen CHECK ((frozen_at IS NULL) = (frozen_reason IS NULL)),
    CONSTRAINT ck_ledger_state_checked CHECK (
        (checked_at IS NULL) = (check_seconds IS NULL)
        AND (checked_at IS NULL) = (differences IS NULL))
);
INSERT INTO ledger_state (id) VALUES (1);
CREATE TRIGGER ledger_state_refuse_delete BEFORE DELETE ON ledger_state
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER ledger_state_refuse_truncate BEFORE TRUNCATE ON ledger_state
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
"""

HOLDS = """
CREATE TABLE holds (
    id uuid CONSTRAINT pk_holds PRIMARY KEY,
    account_id uuid NOT NULL CONSTRAINT fk_holds_account_id_accounts REFERENCES accounts (id),
    amount bigint NOT NULL CONSTRAINT ck_holds_amount CHECK (
        amount BETWEEN 1 AND 9007199254740991),
    -- How much of it went to revenue when it was captured; the rest was freed.
    captured bigint NOT NULL DEFAULT 0 CONSTRAINT ck_holds_captured CHECK (
        captured BETWEEN 0 AND amount),
    status text NOT NULL DEFAULT 'held' CONSTRAINT ck_holds_status CHECK (
        status IN ('held', 'captured', 'released', 'expired')),
    -- Who asked for it, and may end it. No foreign key, as in the audit trail.
    placed_by uuid NOT NULL,
    memo text CONSTRAINT ck_holds_memo CHECK (char_length(memo) BETWEEN 1 AND 500),
    -- From then on nothing can be captured, whether or not a job has freed it already.
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT ck_holds_expires_later CHECK (expires_at > created_at),
    CONSTRAINT ck_holds_captured_once CHECK ((status = 'captured') = (captured > 0)),
    CONSTRAINT ck_holds_ended CHECK ((status = 'held') = (ended_at IS NULL))
);
-- The lists: of an account, of a status, and of all; newest first.
CREATE INDEX ix_holds_account_id ON holds (account_id, created_at, id);
CREATE INDEX ix_holds_status ON holds (status, created_at, id);
CREATE INDEX ix_holds_created_at ON holds (created_at, id);
-- What is to expire, and what an account's `held` is the sum of.
CREATE INDEX ix_holds_open ON holds (expires_at) WHERE status = 'held';

CREATE FUNCTION guard_hold_v1() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Open once, ended once; what was agreed never changes.
    IF OLD.status <> 'held' OR (NEW.id, NEW.account_id, NEW.amount, NEW.placed_by, NEW.created_at)
        IS DISTINCT FROM (OLD.id, OLD.account_id, OLD.amount, OLD.placed_by, OLD.created_at)
        OR (NEW.memo, NEW.expires_at) IS DISTINCT FROM (OLD.memo, OLD.expires_at)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'holds_guard',
            MESSAGE = 'a hold ends once and is not changed otherwise';
    END IF;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION guard_hold_v1() FROM PUBLIC;
CREATE TRIGGER holds_guard BEFORE UPDATE ON holds
    FOR EACH ROW EXECUTE FUNCTION guard_hold_v1();
CREATE TRIGGER holds_refuse_delete BEFORE DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER holds_refuse_truncate BEFORE TRUNCATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();

-- The hold that a charge has captured. Without an index: only `verify` asks for it. The foreign
-- key isn't checked for the old rows, which have none; 0020 does that.
ALTER TABLE transfers
    ADD COLUMN hold_id uuid,
    ADD CONSTRAINT fk_transfers_hold_id_holds FOREIGN KEY (hold_id) REFERENCES holds (id) NOT VALID;
"""

# NOT VALID: new rows are held to it from now on, and nobody waits while the old ones are read. The
# next migration does that.
SIDES = f"""
ALTER TABLE transfers
    DROP CONSTRAINT ck_transfers_sides,
    ADD CONSTRAINT ck_transfers_sides CHECK (CASE
        -- Credits come into being in one place.
        WHEN kind = 'grant' THEN from_account_id = '{ISSUANCE}' AND to_account_id <> '{REVENUE}'
        -- Users among themselves, and never the house.
        WHEN kind = 'transfer' THEN from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            AND to_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
        -- What an app is paid for usage, and for orders.
        WHEN kind IN ('charge', 'payment') THEN
            from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}') AND to_account_id = '{REVENUE}'
        WHEN kind = 'refund' THEN
            from_account_id = '{REVENUE}' AND to_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
        -- What a user leaves behind when they go: it stops existing.
        WHEN kind = 'forfeit' THEN from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            AND to_account_id = '{ISSUANCE}'
        -- Back along the way of the transfer that it takes back: post_transfer_v3 compares them.
        ELSE true END) NOT VALID,
    -- What a transfer belongs to says its kind, and the other way round.
    ADD CONSTRAINT ck_transfers_order CHECK (
        (kind IN ('payment', 'refund')) = (order_id IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT ck_transfers_reverses CHECK (
        (kind = 'reversal') = (reverses_id IS NOT NULL)) NOT VALID,
    ADD CONSTRAINT ck_transfers_hold CHECK (hold_id IS NULL OR kind = 'charge') NOT VALID
"""

REFUSE_FROZEN = """
-- Every function that changes the books begins with it. SQLSTATE AC503.
CREATE FUNCTION refuse_frozen_v1() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger_state WHERE frozen_at IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'AC503', MESSAGE = 'the ledger is frozen';
    END IF;
END $$;
REVOKE ALL ON FUNCTION refuse_frozen_v1() FROM PUBLIC;
"""

POST_TRANSFER = (
    "post_transfer_v3(uuid, text, uuid, uuid, bigint, uuid, text, text, text, timestamptz, "
    "uuid, uuid, uuid, uuid, uuid)"
)
# post_transfer_v2 with orders, reversals, holds and the freeze. That one stays for one release: the
# processes that this release replaces call it until they are gone.
POST = """
CREATE FUNCTION post_transfer_v3(
    p_id uuid, p_kind text, p_from uuid, p_to uuid, p_amount bigint,
    p_actor_id uuid, p_actor_kind text, p_request_id text, p_memo text, p_created_at timestamptz,
    p_debit_id uuid, p_credit_id uuid, p_order_id uuid, p_reverses_id uuid, p_hold_id uuid
) RETURNS transfers
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    account accounts;
    sender accounts;     -- stays empty when a house account sends
    recipient accounts;  -- stays empty when a house account receives
    posted transfers;
BEGIN
    PERFORM refuse_frozen_v1();
    -- Locks first, in the one order of the whole system (by id), so that no two postings wait
    -- for each other in a circle. House accounts are never locked. NO KEY, because foreign keys
    -- to the account may be checked meanwhile.
    FOR account IN
        SELECT * FROM accounts WHERE id IN (p_from, p_to) AND kind = 'user'
        ORDER BY id FOR NO KEY UPDATE
    LOOP
        IF account.id = p_from THEN sender := account; ELSE recipient := account; END IF;
    END LOOP;

    IF sender.id = p_to THEN
        RAISE EXCEPTION USING ERRCODE = 'AC422', MESSAGE = 'an account cannot pay itself';
    END IF;

    -- The status of a user is read by a statement of its own, after the lock: whoever starts a
    -- deletion locks the account before settling it, so either this sees the new status, or the
    -- deletion sees these credits.
    CASE
    WHEN p_kind IN ('charge', 'payment', 'forfeit') THEN
        -- To the house, from somebody: the id of a house account is nobody's. Who is going isn't
        -- charged any more, and forfeits what is left.
        IF sender.id IS NULL OR (p_kind <> 'forfeit' AND NOT EXISTS (
            SELECT FROM users WHERE id = sender.user_id AND status IN ('active', 'suspended')
        )) THEN
            RAISE EXCEPTION USING ERRCODE = 'AC410', MESSAGE = 'there is no such sender';
        END IF;
    WHEN p_kind IN ('grant', 'transfer') THEN
        -- To users that are there to stay.
        IF recipient.id IS NULL OR NOT EXISTS (
            SELECT FROM users WHERE id = recipient.user_id AND status IN ('active', 'suspended')
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'AC404', MESSAGE = 'there is no such recipient';
        END IF;
    WHEN p_kind = 'reversal' THEN
        -- Whole, once, and back along its way. Under the locks of its accounts, of which one at
        -- least is a user's, so that of two at once the second sees the first. Refunds and
        -- reversals always post, whatever has become of the user.
        IF NOT EXISTS (
            SELECT FROM transfers WHERE id = p_reverses_id
                AND kind IN ('grant', 'transfer', 'charge') AND amount = p_amount
                AND from_account_id = p_to AND to_account_id = p_from
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'AC423', MESSAGE = 'this transfer cannot be reversed';
        END IF;
        IF EXISTS (SELECT FROM transfers WHERE reverses_id = p_reverses_id) THEN
            RAISE EXCEPTION USING ERRCODE = 'AC424', MESSAGE = 'this transfer is reversed already';
        END IF;
    ELSE NULL;
    END CASE;

    -- Users spend what they have and is not held. The house may go below zero: minus the balance
    -- of issuance is what exists.
    IF sender.balance - sender.held < p_amount THEN
        RAISE EXCEPTION USING ERRCODE = 'AC402', MESSAGE = 'there are not enough credits',
            DETAIL = json_build_object(
                'available', sender.balance - sender.held, 'required', p_amount);
    END IF;
    IF recipient.balance + p_amount > 9007199254740991 THEN
        RAISE EXCEPTION USING ERRCODE = 'AC409', MESSAGE = 'the recipient''s account is full';
    END IF;

    -- That a kind goes where it may is checked here, by ck_transfers_sides.
    INSERT INTO transfers (id, kind, amount, from_account_id, to_account_id, order_id, reverses_id,
                           hold_id, actor_id, actor_kind, request_id, memo, created_at)
    VALUES (p_id, p_kind, p_amount, p_from, p_to, p_order_id, p_reverses_id,
            p_hold_id, p_actor_id, p_actor_kind, p_request_id, p_memo, p_created_at)
    RETURNING * INTO posted;
    -- Where the house sends or receives, that side is empty, and so are its entry's seq and
    -- balance_after.
    INSERT INTO entries (id, transfer_id, account_id, seq, amount, balance_after, created_at)
    VALUES (p_debit_id, p_id, p_from, sender.entry_count + 1, -p_amount,
            sender.balance - p_amount, p_created_at),
           (p_credit_id, p_id, p_to, recipient.entry_count + 1, p_amount,
            recipient.balance + p_amount, p_created_at);
    UPDATE accounts SET entry_count = entry_count + 1,
        balance = balance + CASE id WHEN p_from THEN -p_amount ELSE p_amount END
    WHERE id IN (sender.id, recipient.id);
    INSERT INTO account_deltas (account_id, amount)
    SELECT id, CASE id WHEN p_from THEN -p_amount ELSE p_amount END
    FROM accounts WHERE id IN (p_from, p_to) AND kind <> 'user';
    RETURN posted;
END $$;
"""

POST_BATCH = (
    "post_batch_v1(uuid[], uuid, uuid[], bigint[], text[], uuid[], uuid[], uuid, text, text, "
    "timestamptz)"
)
BATCH = """
-- Many transfers of one sender, all or none, in the order given. What is refused carries in its
-- DETAIL which of them it was, from 0.
CREATE FUNCTION post_batch_v1(
    p_ids uuid[], p_from uuid, p_tos uuid[], p_amounts bigint[], p_memos text[],
    p_debit_ids uuid[], p_credit_ids uuid[],
    p_actor_id uuid, p_actor_kind text, p_request_id text, p_created_at timestamptz
) RETURNS SETOF transfers
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    required numeric := (SELECT sum(amount) FROM unnest(p_amounts) amount);
    available bigint;
    refused integer;
BEGIN
    PERFORM refuse_frozen_v1();
    -- All accounts at once, in the one order, before the postings lock them one by one in theirs.
    PERFORM FROM accounts WHERE id = ANY (p_tos || p_from) AND kind = 'user'
        ORDER BY id FOR NO KEY UPDATE;
    SELECT balance - held INTO available FROM accounts WHERE id = p_from;
    FOR number IN 1 .. cardinality(p_ids) LOOP
        refused := number - 1;
        RETURN NEXT post_transfer_v3(
            p_ids[number], 'transfer', p_from, p_tos[number], p_amounts[number], p_actor_id,
            p_actor_kind, p_request_id, p_memos[number], p_created_at, p_debit_ids[number],
            p_credit_ids[number], NULL, NULL, NULL);
    END LOOP;
-- One block around them all: each begun costs a subtransaction.
EXCEPTION
    WHEN SQLSTATE 'AC402' THEN
        -- Whoever has too little is told so for all of them together.
        RAISE EXCEPTION USING ERRCODE = 'AC402', MESSAGE = SQLERRM,
            DETAIL = json_build_object('available', available, 'required', required);
    WHEN SQLSTATE 'AC404' OR SQLSTATE 'AC409' OR SQLSTATE 'AC422' THEN
        RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM, DETAIL = refused;
END $$;
"""

PLACE_HOLD = "place_hold_v1(uuid, uuid, bigint, uuid, text, timestamptz, timestamptz)"
CAPTURE_HOLD = "capture_hold_v1(uuid, bigint, uuid, uuid, text, text, timestamptz, uuid, uuid)"
RELEASE_HOLD = "release_hold_v1(uuid, text, timestamptz)"
HOLDING = f"""
-- Sets a part of a user's credits aside.
CREATE FUNCTION place_hold_v1(
    p_id uuid, p_account_id uuid, p_amount bigint, p_placed_by uuid, p_memo text,
    p_expires_at timestamptz, p_created_at timestamptz
) RETURNS holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    account accounts;
    placed holds;
BEGIN
    PERFORM refuse_frozen_v1();
    SELECT * INTO account FROM accounts WHERE id = p_account_id AND kind = 'user'
        FOR NO KEY UPDATE;
    -- Under the lock, as in post_transfer_v3.
    IF account.id IS NULL OR NOT EXISTS (
        SELECT FROM users WHERE id = account.user_id AND status IN ('active', 'suspended')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'AC410', MESSAGE = 'there is no such account';
    END IF;
    IF account.balance - account.held < p_amount THEN
        RAISE EXCEPTION USING ERRCODE = 'AC402', MESSAGE = 'there are not enough credits',
            DETAIL = json_build_object(
                'available', account.balance - account.held, 'required', p_amount);
    END IF;
    INSERT INTO holds (id, account_id, amount, placed_by, memo, expires_at, created_at)
    VALUES (p_id, p_account_id, p_amount, p_placed_by, p_memo, p_expires_at, p_created_at)
    RETURNING * INTO placed;
    UPDATE accounts SET held = held + p_amount WHERE id = p_account_id;
    RETURN placed;
END $$;

-- Moves a hold's credits to revenue, up to its amount (all of it without one), and frees the rest.
CREATE FUNCTION capture_hold_v1(
    p_id uuid, p_amount bigint, p_transfer_id uuid,
    p_actor_id uuid, p_actor_kind text, p_request_id text, p_now timestamptz,
    p_debit_id uuid, p_credit_id uuid
) RETURNS holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    hold holds;
    taken bigint;
BEGIN
    PERFORM refuse_frozen_v1();
    -- The hold before the account, as everywhere.
    SELECT * INTO hold FROM holds WHERE id = p_id FOR NO KEY UPDATE;
    taken := coalesce(p_amount, hold.amount);
    -- Whatever the job has done: past its time it can't be captured.
    IF hold.id IS NULL OR hold.status <> 'held' OR hold.expires_at <= p_now THEN
        RAISE EXCEPTION USING ERRCODE = 'AC425', MESSAGE = 'this hold is not held any more';
    END IF;
    IF taken > hold.amount THEN
        RAISE EXCEPTION USING ERRCODE = 'AC426', MESSAGE = 'this hold holds less';
    END IF;
    PERFORM FROM accounts WHERE id = hold.account_id FOR NO KEY UPDATE;
    UPDATE accounts SET held = held - hold.amount WHERE id = hold.account_id;
    PERFORM post_transfer_v3(
        p_transfer_id, 'charge', hold.account_id, '{REVENUE}', taken, p_actor_id, p_actor_kind,
        p_request_id, hold.memo, p_now, p_debit_id, p_credit_id, NULL, NULL, p_id);
    UPDATE holds SET status = 'captured', captured = taken, ended_at = p_now WHERE id = p_id
    RETURNING * INTO hold;
    RETURN hold;
END $$;

-- Frees what a hold sets aside: `released` by somebody, or `expired` when its time is over.
CREATE FUNCTION release_hold_v1(p_id uuid, p_status text, p_now timestamptz) RETURNS holds
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    hold holds;
BEGIN
    PERFORM refuse_frozen_v1();
    SELECT * INTO hold FROM holds WHERE id = p_id FOR NO KEY UPDATE;
    IF hold.id IS NULL OR hold.status <> 'held'
        OR (p_status = 'expired') <> (hold.expires_at <= p_now)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'AC425', MESSAGE = 'this hold is not held any more';
    END IF;
    PERFORM FROM accounts WHERE id = hold.account_id FOR NO KEY UPDATE;
    UPDATE accounts SET held = held - hold.amount WHERE id = hold.account_id;
    UPDATE holds SET status = p_status, ended_at = p_now WHERE id = p_id RETURNING * INTO hold;
    RETURN hold;
END $$;
"""

FOLD = "fold_deltas_v1(integer)"
SET_FROZEN = "set_ledger_frozen_v1(timestamptz, text)"
NOTE_CHECK = "note_ledger_check_v1(timestamptz, double precision, bigint)"
KEEPING = """
-- Adds deltas to their house accounts' balances, up to so many at once, and returns how many. In no
-- order, and none twice: one statement deletes them and adds up what it has deleted.
CREATE FUNCTION fold_deltas_v1(p_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    -- Who else folds waits here: two at once would wait for each other in any order.
    -- NO KEY, because postings check foreign keys to these accounts meanwhile.
    SELECT FROM accounts WHERE kind <> 'user' ORDER BY id FOR NO KEY UPDATE;
    WITH folded AS (
        DELETE FROM account_deltas
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM account_deltas LIMIT p_most))
        RETURNING account_id, amount
    ), sums AS (
        SELECT account_id, sum(amount) AS amount, count(*) AS deltas
        FROM folded GROUP BY account_id
    ), changed AS (
        UPDATE accounts SET balance = balance + sums.amount
        FROM sums WHERE accounts.id = sums.account_id
        RETURNING sums.deltas
    )
    SELECT coalesce(sum(deltas), 0)::bigint FROM changed
$$;

-- Stops everything that would change the books, or lets it go on (both empty). Returns whether that
-- changed anything: what is frozen keeps its first reason.
CREATE FUNCTION set_ledger_frozen_v1(p_at timestamptz, p_reason text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH changed AS (
        UPDATE ledger_state SET frozen_at = p_at, frozen_reason = p_reason
        WHERE (frozen_at IS NULL) <> (p_at IS NULL)
        RETURNING id
    )
    SELECT count(*) = 1 FROM changed
$$;

CREATE FUNCTION note_ledger_check_v1(p_at timestamptz, p_seconds double precision, p_found bigint)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    UPDATE ledger_state
    SET checked_at = p_at, check_seconds = p_seconds, differences = p_found
$$;
"""


def upgrade() -> None:
    """Add what the new kinds of transfers need; nothing that is stored changes."""
    for statements in (STATE, HOLDS, SIDES, REFUSE_FROZEN, POST, BATCH, HOLDING, KEEPING):
        op.execute(statements)
    grant("SELECT", "ledger_state, holds")
    for function in (
        POST_TRANSFER, POST_BATCH, PLACE_HOLD, CAPTURE_HOLD, RELEASE_HOLD, FOLD, SET_FROZEN,
        NOTE_CHECK,
    ):  # fmt: skip
        grant_execute(function)
