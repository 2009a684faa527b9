"""Charges and forfeits: credits that go back to the house, and the lock on an account by itself."""

from alembic import op

from migrations.privileges import grant_execute

revision = "0013_charges"
down_revision = "0012_api_keys"
branch_labels = None
depends_on = None

# The house accounts, under the ids that 0006_credits gave them.
ISSUANCE = "00000000-0000-7000-8000-000000000001"
REVENUE = "00000000-0000-7000-8000-000000000002"

POST_TRANSFER = (
    "post_transfer_v2(uuid, text, uuid, uuid, bigint, uuid, text, text, text, timestamptz, "
    "uuid, uuid)"
)

# NOT VALID: new rows are held to it from now on, and nobody waits while the old ones are read. The
# next migration does that.
SIDES = f"""
ALTER TABLE transfers
    DROP CONSTRAINT ck_transfers_sides,
    -- Credits come into being in one place and are taken in by the house in two, and users'
    -- transfers never touch it.
    ADD CONSTRAINT ck_transfers_sides CHECK (CASE kind
        WHEN 'grant' THEN from_account_id = '{ISSUANCE}' AND to_account_id <> '{REVENUE}'
        WHEN 'transfer' THEN from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            AND to_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
        -- What an app is paid for usage.
        WHEN 'charge' THEN from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            AND to_account_id = '{REVENUE}'
        -- What a user leaves behind when they go: it stops existing.
        WHEN 'forfeit' THEN from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            AND to_account_id = '{ISSUANCE}'
        ELSE true END) NOT VALID
"""

# post_transfer_v1 with house accounts as recipients. It stays for one release: the processes that
# this release replaces call it until they are gone.
POST = """
CREATE FUNCTION post_transfer_v2(
    p_id uuid, p_kind text, p_from uuid, p_to uuid, p_amount bigint,
    p_actor_id uuid, p_actor_kind text, p_request_id text, p_memo text, p_created_at timestamptz,
    p_debit_id uuid, p_credit_id uuid
) RETURNS transfers
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    account accounts;
    sender accounts;     -- stays empty when a house account sends
    recipient accounts;  -- stays empty when a house account receives
    posted transfers;
BEGIN
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
    IF p_kind IN ('charge', 'forfeit') THEN
        -- To the house, from somebody: the id of a house account is nobody's. Who is going isn't
        -- charged any more, and forfeits what is left.
        IF sender.id IS NULL OR (p_kind = 'charge' AND NOT EXISTS (
            SELECT FROM users WHERE id = sender.user_id AND status IN ('active', 'suspended')
        )) THEN
            RAISE EXCEPTION USING ERRCODE = 'AC410', MESSAGE = 'there is no such sender';
        END IF;
    -- Grants and transfers go to users that are there to stay.
    ELSIF recipient.id IS NULL OR NOT EXISTS (
        SELECT FROM users WHERE id = recipient.user_id AND status IN ('active', 'suspended')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'AC404', MESSAGE = 'there is no such recipient';
    END IF;

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
    INSERT INTO transfers (id, kind, amount, from_account_id, to_account_id,
                           actor_id, actor_kind, request_id, memo, created_at)
    VALUES (p_id, p_kind, p_amount, p_from, p_to,
            p_actor_id, p_actor_kind, p_request_id, p_memo, p_created_at)
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

# For whoever changes a user's status to `deleting`, before they do: the application's role may not
# lock the books by itself, because a lock on a row needs the right to change it.
LOCK = """
CREATE FUNCTION lock_account_v1(p_user_id uuid) RETURNS TABLE (balance bigint, held bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a.balance, a.held FROM accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE
$$;
"""


def upgrade() -> None:
    """Let transfers end in house accounts; nothing that is stored changes."""
    op.execute(SIDES)
    op.execute(POST)
    op.execute(LOCK)
    grant_execute(POST_TRANSFER)
    grant_execute("lock_account_v1(uuid)")
