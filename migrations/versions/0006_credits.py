"""The ledger: accounts, transfers and entries, and the one function that moves credits."""

from alembic import op

from migrations.privileges import grant, grant_execute

revision = "0006_credits"
down_revision = "0005_idempotency"
branch_labels = None
depends_on = None

# The house accounts have fixed ids, so that neither code nor function has to look them up.
ISSUANCE = "00000000-0000-7000-8000-000000000001"
REVENUE = "00000000-0000-7000-8000-000000000002"

POST_TRANSFER = (
    "post_transfer_v1(uuid, text, uuid, uuid, bigint, uuid, text, text, text, timestamptz, "
    "uuid, uuid)"
)

ACCOUNTS = """
CREATE TABLE accounts (
    -- A user's account carries the user's id: it is found and locked without a look-up.
    id uuid CONSTRAINT pk_accounts PRIMARY KEY,
    user_id uuid CONSTRAINT uq_accounts_user_id UNIQUE
        CONSTRAINT fk_accounts_user_id_users REFERENCES users (id),
    kind text NOT NULL CONSTRAINT ck_accounts_kind CHECK (kind IN ('user', 'issuance', 'revenue')),
    -- What the account holds. A house account's balance lacks what account_deltas still has.
    balance bigint NOT NULL DEFAULT 0,
    -- The part of the balance that is set aside and can't be spent.
    held bigint NOT NULL DEFAULT 0 CONSTRAINT ck_accounts_held CHECK (held >= 0),
    -- Entries posted so far; the next entry's seq is one more. Stays 0 for house accounts.
    entry_count bigint NOT NULL DEFAULT 0,
    CONSTRAINT ck_accounts_owner CHECK (
        CASE kind WHEN 'user' THEN user_id IS NOT DISTINCT FROM id ELSE user_id IS NULL END),
    -- 2^53-1: larger integers lose digits in JavaScript.
    CONSTRAINT ck_accounts_user_balance CHECK (
        kind <> 'user' OR (balance - held >= 0 AND balance <= 9007199254740991)),
    CONSTRAINT ck_accounts_entry_count CHECK (
        CASE kind WHEN 'user' THEN entry_count >= 0 ELSE entry_count = 0 END)
);
-- There is one house account of a kind.
CREATE UNIQUE INDEX uq_accounts_house_kind ON accounts (kind) WHERE kind <> 'user';

-- House accounts take part in every grant. Locking their row would put all grants in one queue,
-- so a posting adds a row here, and a balance is the account's plus the sum of these.
CREATE TABLE account_deltas (
    account_id uuid NOT NULL CONSTRAINT fk_account_deltas_account_id_accounts
        REFERENCES accounts (id),
    amount bigint NOT NULL CONSTRAINT ck_account_deltas_amount CHECK (amount <> 0)
);
CREATE INDEX ix_account_deltas_account_id ON account_deltas (account_id);
"""

TRANSFERS = f"""
CREATE TABLE transfers (
    id uuid CONSTRAINT pk_transfers PRIMARY KEY,
    kind text NOT NULL CONSTRAINT ck_transfers_kind CHECK (kind IN (
        'grant', 'transfer', 'charge', 'payment', 'refund', 'reversal', 'forfeit')),
    amount bigint NOT NULL CONSTRAINT ck_transfers_amount CHECK (
        amount BETWEEN 1 AND 9007199254740991),
    -- No foreign keys here: the trigger below proves both equal to the accounts of the two
    -- entries, which have one. That saves two indexes and two look-ups in every posting.
    from_account_id uuid NOT NULL,
    to_account_id uuid NOT NULL,
    -- The order that was paid or refunded.
    order_id uuid,
    -- The transfer that this one takes back. Unique: it is taken back once.
    reverses_id uuid CONSTRAINT uq_transfers_reverses_id UNIQUE
        CONSTRAINT fk_transfers_reverses_id_transfers REFERENCES transfers (id),
    -- Who asked; empty for the command line and for jobs. No foreign key, as in the audit trail.
    actor_id uuid,
    actor_kind text NOT NULL CONSTRAINT ck_transfers_actor_kind CHECK (
        actor_kind IN ('user', 'api_key', 'cli', 'system')),
    -- Joins the transfer with log lines and audit events; empty outside requests.
    request_id text CONSTRAINT ck_transfers_request_id CHECK (
        char_length(request_id) BETWEEN 1 AND 128),
    memo text CONSTRAINT ck_transfers_memo CHECK (char_length(memo) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL,
    CONSTRAINT ck_transfers_accounts_differ CHECK (from_account_id <> to_account_id),
    -- Credits come into being in one place, and users' transfers never touch the house.
    CONSTRAINT ck_transfers_sides CHECK (CASE kind
        WHEN 'grant' THEN from_account_id = '{ISSUANCE}' AND to_account_id <> '{REVENUE}'
        WHEN 'transfer' THEN from_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
            AND to_account_id NOT IN ('{ISSUANCE}', '{REVENUE}')
        ELSE true END)
);

CREATE TABLE entries (
    id uuid CONSTRAINT pk_entries PRIMARY KEY,
    transfer_id uuid NOT NULL CONSTRAINT fk_entries_transfer_id_transfers
        REFERENCES transfers (id),
    account_id uuid NOT NULL CONSTRAINT fk_entries_account_id_accounts REFERENCES accounts (id),
    -- The entry's place in its account, from 1, without gaps. Ids and times are made before the
    -- lock and say nothing about order. House accounts aren't locked and have no order.
    seq bigint CONSTRAINT ck_entries_seq CHECK (seq >= 1),
    amount bigint NOT NULL CONSTRAINT ck_entries_amount CHECK (amount <> 0),
    -- The account's balance after this entry, as a statement shows it.
    balance_after bigint CONSTRAINT ck_entries_balance_after CHECK (
        balance_after BETWEEN 0 AND 9007199254740991),
    created_at timestamptz NOT NULL,
    -- Also the index that an account's entries are listed by.
    CONSTRAINT uq_entries_account_id_seq UNIQUE (account_id, seq),
    CONSTRAINT ck_entries_seq_and_balance_after CHECK ((seq IS NULL) = (balance_after IS NULL))
);
-- Room for one entry of each sign per transfer. The trigger below looks at a transfer once, when
-- it commits; this keeps anyone from adding a third entry later.
CREATE UNIQUE INDEX uq_entries_transfer_id_sign ON entries (transfer_id, (amount > 0));
"""

# SECURITY DEFINER functions run with the owner's rights: a fixed search_path keeps a caller from
# slipping in objects of its own.
CHECK_TRANSFER = """
CREATE FUNCTION check_transfer_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    posted record;
BEGIN
    -- The join leaves out entries of accounts that don't exist.
    SELECT count(*) AS entries,
        count(*) FILTER (
            WHERE (e.account_id, e.amount) IN ((NEW.from_account_id, -NEW.amount),
                                               (NEW.to_account_id, NEW.amount))
        ) AS as_said,
        count(*) FILTER (WHERE (a.kind = 'user') = (e.seq IS NOT NULL)) AS ordered
    INTO posted
    FROM entries e JOIN accounts a ON a.id = e.account_id
    WHERE e.transfer_id = NEW.id;
    -- Two entries of one sign can't stand together (unique index), so two that are as the
    -- transfer says are one on each side.
    IF posted.entries <> 2 OR posted.as_said <> 2 THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'transfers_two_entries',
            MESSAGE = format('transfer %s does not have exactly its two entries', NEW.id);
    END IF;
    IF posted.ordered <> 2 THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'transfers_two_entries',
            MESSAGE = format('transfer %s: users'' entries have a seq, and no others', NEW.id);
    END IF;
    RETURN NULL;
END $$;
-- At commit, because transfer and entries are separate statements.
CREATE CONSTRAINT TRIGGER transfers_two_entries AFTER INSERT ON transfers
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_transfer_v1();
"""

# Row triggers don't see TRUNCATE, so each table has a statement trigger as well. Deltas go when
# they are folded into a balance, which a row trigger can't tell from a loss: the application's
# role has no right to delete, and `flask credits verify` sees the sum.
APPEND_ONLY = """
CREATE TRIGGER transfers_refuse_change BEFORE UPDATE OR DELETE ON transfers
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER transfers_refuse_truncate BEFORE TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER entries_refuse_change BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER entries_refuse_truncate BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER account_deltas_refuse_change BEFORE UPDATE ON account_deltas
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER account_deltas_refuse_truncate BEFORE TRUNCATE ON account_deltas
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
-- An account stays, also when its user is erased, so that it can always be locked.
CREATE TRIGGER accounts_refuse_delete BEFORE DELETE ON accounts
    FOR EACH ROW EXECUTE FUNCTION refuse_change_v1();
CREATE TRIGGER accounts_refuse_truncate BEFORE TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_v1();
"""

FIRST_ACCOUNTS = f"""
CREATE FUNCTION open_account_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO accounts (id, user_id, kind) VALUES (NEW.id, NEW.id, 'user');
    RETURN NULL;
END $$;
-- With the user, in the same transaction: there is no user whose account can't be locked.
CREATE TRIGGER users_open_account AFTER INSERT ON users
    FOR EACH ROW EXECUTE FUNCTION open_account_v1();
INSERT INTO accounts (id, user_id, kind) SELECT id, id, 'user' FROM users;
INSERT INTO accounts (id, kind) VALUES ('{ISSUANCE}', 'issuance'), ('{REVENUE}', 'revenue');
"""

# One call is one round trip: the row locks are held for as short as can be, also when the worker
# freezes in between. Ids and the time come from the caller; nothing here reads a clock.
POST = """
CREATE FUNCTION post_transfer_v1(
    p_id uuid, p_kind text, p_from uuid, p_to uuid, p_amount bigint,
    p_actor_id uuid, p_actor_kind text, p_request_id text, p_memo text, p_created_at timestamptz,
    p_debit_id uuid, p_credit_id uuid
) RETURNS transfers
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    account accounts;
    sender accounts;     -- stays empty when a house account sends
    recipient accounts;
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

    -- Grants and transfers go to users that are there to stay; the id of a house account is
    -- nobody's. The status is read by a statement of its own, after the lock: whoever starts a
    -- deletion locks the account before settling it, so either this sees the new status, or the
    -- deletion sees these credits.
    IF recipient.id IS NULL OR NOT EXISTS (
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

    INSERT INTO transfers (id, kind, amount, from_account_id, to_account_id,
                           actor_id, actor_kind, request_id, memo, created_at)
    VALUES (p_id, p_kind, p_amount, p_from, p_to,
            p_actor_id, p_actor_kind, p_request_id, p_memo, p_created_at)
    RETURNING * INTO posted;
    -- When the house sends, sender is empty, and so are its entry's seq and balance_after.
    INSERT INTO entries (id, transfer_id, account_id, seq, amount, balance_after, created_at)
    VALUES (p_debit_id, p_id, p_from, sender.entry_count + 1, -p_amount,
            sender.balance - p_amount, p_created_at),
           (p_credit_id, p_id, p_to, recipient.entry_count + 1, p_amount,
            recipient.balance + p_amount, p_created_at);
    UPDATE accounts SET entry_count = entry_count + 1,
        balance = balance + CASE id WHEN p_from THEN -p_amount ELSE p_amount END
    WHERE id IN (sender.id, recipient.id);
    INSERT INTO account_deltas (account_id, amount)
    SELECT id, -p_amount FROM accounts WHERE id = p_from AND kind <> 'user';
    RETURN posted;
END $$;
"""

# New functions may be called by everyone until that is taken away.
PRIVATE = "REVOKE ALL ON FUNCTION check_transfer_v1(), open_account_v1() FROM PUBLIC"


def upgrade() -> None:
    """Create the ledger, empty but for the house accounts and one account for each user."""
    for statements in (
        ACCOUNTS, TRANSFERS, CHECK_TRANSFER, APPEND_ONLY, FIRST_ACCOUNTS, POST, PRIVATE,
    ):  # fmt: skip
        op.execute(statements)
    grant("SELECT", "accounts, account_deltas, transfers, entries")
    grant_execute(POST_TRANSFER)
