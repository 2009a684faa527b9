"""Fills books with as many transfers of every kind as one likes, all of them right, in plain SQL.

Rows come in the order in which they were posted, under ids that grow with it, as in books that the
product has written. Users and amounts are scattered and the same each time.
"""

from sqlalchemy import Connection, text

from app.credits.values import ISSUANCE_ID, REVENUE_ID

TABLES = (
    "users", "accounts", "account_deltas", "orders", "order_items", "transfers", "entries", "holds",
)  # fmt: skip
# An id of version 7 that belongs to a number, and to no other of another kind.
ID = (
    "(lpad(to_hex(1767225600000 + {n}), 12, '0') || '7' || substr(md5('{kind}' || {n}), 1, 3)"
    " || '8' || substr(md5('{kind}' || {n}), 4, 15))::uuid"
)
USER = ID.format(n="({n})", kind="user")
# Each user is granted enough for all that follows; then nine kinds of moves take turns.
MOVES = f"""
CREATE TEMP TABLE moves AS
SELECT n, {ID.format(n="n", kind="transfer")} AS id, amount,
    CASE WHEN n <= :users THEN 'grant' ELSE
        (ARRAY['charge', 'charge', 'payment', 'refund', 'reversal'])[turn + 1] END AS kind,
    CASE WHEN n <= :users THEN '{ISSUANCE_ID}' WHEN turn IN (3, 4) THEN '{REVENUE_ID}'
        ELSE one END AS from_id,
    CASE WHEN n <= :users THEN {USER.format(n="n")}
        WHEN turn IN (0, 1, 2) THEN '{REVENUE_ID}'
        WHEN turn IN (3, 4) THEN one ELSE other END AS to_id,
    CASE WHEN n > :users AND turn = 1 THEN {ID.format(n="n", kind="hold")} END AS hold_id,
    CASE WHEN n > :users AND turn IN (2, 3) THEN {ID.format(n="same", kind="order")} END
        AS order_id,
    CASE WHEN n > :users AND turn = 4 THEN {ID.format(n="(n - 4)", kind="transfer")} END
        AS reverses_id
FROM generate_series(1, :transfers) AS n,
    -- A refund has the user, the amount and the order of the payment before it, and a reversal
    -- those of the charge that it takes back.
    LATERAL (SELECT (n + 10 - (:users % 10) - 1) % 10 AS turn) AS turns,
    LATERAL (SELECT CASE WHEN n <= :users THEN n WHEN turn = 3 THEN n - 1 WHEN turn = 4 THEN n - 4
        ELSE n END AS same) AS sames,
    LATERAL (SELECT CASE WHEN n <= :users THEN 1000000 ELSE 1 + same * 31 % 100 END AS amount,
        {USER.format(n="1 + same * 7919::bigint % :users")} AS one,
        {USER.format(n="1 + (same * 7919::bigint + 1 + n % (:users - 1)) % :users")} AS other
    ) AS sides;
UPDATE moves SET kind = 'transfer' WHERE kind IS NULL;
"""
FILL = f"""
INSERT INTO users (id, email, email_key, email_verified, name, name_grams, password_hash, roles,
    status, version, created_at, updated_at)
SELECT {USER.format(n="n")}, n || '@example.org', n || '@example.org', false, 'A', '{{}}', 'x',
    '{{}}', 'active', 1, '2026-01-01Z', '2026-01-01Z'
FROM generate_series(1, :users) AS n;
INSERT INTO accounts (id, user_id, kind) SELECT id, id, 'user' FROM users;
INSERT INTO holds (id, account_id, amount, captured, status, placed_by, expires_at, created_at,
    ended_at)
SELECT hold_id, from_id, amount + n % 3, amount, 'captured', from_id, '2026-01-09Z', '2026-01-02Z',
    '2026-01-03Z'
FROM moves WHERE hold_id IS NOT NULL;
INSERT INTO holds (id, account_id, amount, captured, status, placed_by, expires_at, created_at,
    ended_at)
SELECT {ID.format(n="n", kind="another hold")}, {USER.format(n="n")}, 5, 0,
    (ARRAY['held', 'released', 'expired'])[1 + n % 3], {USER.format(n="n")}, '2026-01-09Z',
    '2026-01-02Z', CASE WHEN n % 3 > 0 THEN timestamptz '2026-01-09Z' END
FROM generate_series(1, :users, 5) AS n;
INSERT INTO orders (id, user_id, status, subtotal, discount, total, refunded, created_at,
    expires_at, paid_at)
SELECT paid.order_id, paid.from_id, CASE WHEN refund.id IS NULL THEN 'paid' ELSE 'refunded' END,
    paid.amount, 0, paid.amount, coalesce(refund.amount, 0), '2026-01-01Z', '2026-01-09Z',
    '2026-01-02Z'
FROM moves AS paid
LEFT JOIN moves AS refund ON refund.order_id = paid.order_id AND refund.kind = 'refund'
WHERE paid.kind = 'payment';
INSERT INTO products (id, sku, name, name_grams, price, active, version)
VALUES ({ID.format(n="0", kind="product")}, 'A', 'A', '{{}}', 1, true, 1);
INSERT INTO order_items (order_id, position, product_id, sku, name, unit_price, quantity, total)
SELECT order_id, 1, {ID.format(n="0", kind="product")}, 'A', 'A', amount, 1, amount
FROM moves WHERE kind = 'payment';
INSERT INTO transfers (id, kind, amount, from_account_id, to_account_id, order_id, reverses_id,
    hold_id, actor_kind, created_at)
SELECT id, kind, amount, from_id, to_id, order_id, reverses_id, hold_id, 'system', '2026-01-02Z'
FROM moves ORDER BY n;
INSERT INTO entries (id, transfer_id, account_id, seq, amount, balance_after, created_at)
SELECT id, transfer_id, account_id, CASE WHEN numbered THEN row_number() OVER account END, amount,
    CASE WHEN numbered THEN sum(amount) OVER account END, '2026-01-02Z'
FROM (
    SELECT n, {ID.format(n="n", kind="debit")} AS id, id AS transfer_id, from_id AS account_id,
        -amount AS amount FROM moves
    UNION ALL
    SELECT n, {ID.format(n="n", kind="credit")}, id, to_id, amount FROM moves
) AS posted, LATERAL (
    SELECT account_id NOT IN ('{ISSUANCE_ID}', '{REVENUE_ID}') AS numbered
) AS accounts
WINDOW account AS (PARTITION BY account_id ORDER BY n)
ORDER BY n, amount;
-- The last moves of the house aren't folded yet.
INSERT INTO account_deltas (account_id, amount)
SELECT account_id, entries.amount FROM entries JOIN moves ON moves.id = transfer_id
WHERE seq IS NULL AND n > :transfers - 1000;
UPDATE accounts SET
    balance = posted.balance - coalesce(
        (SELECT sum(amount) FROM account_deltas WHERE account_id = accounts.id), 0),
    entry_count = posted.entry_count
FROM (SELECT account_id, sum(amount) AS balance, count(seq) AS entry_count
      FROM entries GROUP BY account_id) AS posted
WHERE accounts.id = posted.account_id;
UPDATE accounts SET held = open.amount
FROM (SELECT account_id, sum(amount) AS amount FROM holds WHERE status = 'held'
      GROUP BY account_id) AS open
WHERE accounts.id = open.account_id;
DROP TABLE moves;
"""


def fill(connection: Connection, *, users: int, transfers: int) -> None:
    """Post so many transfers, the first of which are a grant for each user, into empty books.

    The connection is the owner's, in a transaction; the tables' triggers are off in it.
    """
    for table in TABLES:
        connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    for statement in f"{MOVES}{FILL}".split(";\n"):
        if statement.strip():
            connection.execute(text(statement), {"users": users, "transfers": transfers})
    for table in TABLES:
        connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
