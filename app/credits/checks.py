"""What is checked of the books: queries, and the sentences that say what one of them has found."""

from collections.abc import Mapping
from typing import Final

# By the column that says of a row whether it is so: the sentence, with the row's values. Where that
# changes while others go on posting, or the order goes on, the second one says what stays.
Sentences = Mapping[str, str | tuple[str, str]]
Check = tuple[str, Sentences]

# All are needed: entries can add up to zero while balances don't, and the other way round. Whatever
# is asked of the same rows is asked in one pass over them.
CHECKS: Final[tuple[Check, ...]] = (
    (
        """
        SELECT total, total <> 0 AS wrong FROM (
            SELECT coalesce((SELECT sum(balance) FROM accounts), 0)
                 + coalesce((SELECT sum(amount) FROM account_deltas), 0) AS total
        ) AS books
        """,
        {"wrong": "All accounts together hold {total} credits instead of 0."},
    ),
    (
        """
        SELECT * FROM (
            SELECT *, holds <> posted AS wrong_sum, holds - posted AS off,
                balance - balance_after AS off_last, entry_count - entries AS off_count,
                held - open AS off_held,
                is_user AND balance <> balance_after AS wrong_last,
                is_user AND (entry_count, entry_count) <> (entries, last) AS wrong_count,
                is_user AND (available < 0 OR balance > 9007199254740991) AS beyond,
                held <> open AS wrong_held
            FROM (
                SELECT id, kind, kind = 'user' AS is_user, balance, held, entry_count,
                    balance - held AS available, balance + coalesce(unfolded, 0) AS holds,
                    coalesce(posted, 0) AS posted, coalesce(entries, 0) AS entries,
                    coalesce(last, 0) AS last, coalesce(open, 0) AS open,
                    -- One row by a unique index; `max` only makes it 0 where there is none.
                    (SELECT coalesce(max(balance_after), 0) FROM entries
                     WHERE account_id = accounts.id AND seq = last) AS balance_after
                FROM accounts
                LEFT JOIN (SELECT account_id AS id, sum(amount) AS posted, count(*) AS entries,
                           max(seq) AS last FROM entries GROUP BY account_id) AS posted USING (id)
                LEFT JOIN (SELECT account_id AS id, sum(amount) AS unfolded
                           FROM account_deltas GROUP BY account_id) AS unfolded USING (id)
                LEFT JOIN (SELECT account_id AS id, sum(amount) AS open FROM holds
                           WHERE status = 'held' GROUP BY account_id) AS open USING (id)
            ) AS found
        ) AS found WHERE wrong_sum OR wrong_last OR wrong_count OR beyond OR wrong_held
        """,
        {
            "wrong_sum": (
                "Account {id} ({kind}) holds {holds}, but its entries add up to {posted}.",
                "Account {id} is off by {off}.",
            ),
            "wrong_last": (
                "Account {id} has a balance of {balance}, but its last entry says {balance_after}.",
                "Account {id} is off by {off_last} since its last entry.",
            ),
            "wrong_count": (
                "Account {id} counts {entry_count} entries, but has {entries}, of which the last "
                "is number {last}.",
                "Account {id} counts entries off by {off_count}.",
            ),
            "beyond": (
                "Account {id} has {available} available, outside of what an account may hold.",
                "Account {id} is outside of what an account may hold.",
            ),
            "wrong_held": (
                "Account {id} holds back {held}, but its open holds add up to {open}.",
                "Account {id} holds back credits off by {off_held}.",
            ),
        },
    ),
    (
        # OFFSET keeps the order of the index away from the window: sorting takes 9 s for five
        # million entries, and fetching each of them by the index 30, or far more from a disk.
        """
        SELECT *, balance_after - running AS off, true AS wrong FROM (
            SELECT seq, account_id, balance_after, sum(amount) OVER (
                PARTITION BY account_id ORDER BY seq ROWS UNBOUNDED PRECEDING) AS running
            FROM (SELECT seq, account_id, balance_after, amount FROM entries
                  WHERE seq IS NOT NULL OFFSET 0) AS numbered
        ) AS posted WHERE balance_after <> running
        """,
        {
            # As the account itself: whatever is posted there later is off by the same.
            "wrong": (
                "Entry {seq} of account {account_id} says a balance of {balance_after} instead of "
                "{running}.",
                "Account {account_id} is off by {off}.",
            )
        },
    ),
    (
        """
        SELECT transfers.id, true AS wrong
        FROM transfers LEFT JOIN entries ON entries.transfer_id = transfers.id
        GROUP BY transfers.id
        HAVING count(entries.id) <> 2 OR count(*) FILTER (
            WHERE (entries.account_id, entries.amount)
                IN ((from_account_id, -transfers.amount), (to_account_id, transfers.amount))
        ) <> 2
        """,
        {"wrong": "Transfer {id} does not have exactly its two entries."},
    ),
    (
        """
        SELECT * FROM (
            SELECT entries.id, transfers.id IS NULL OR accounts.id IS NULL AS lost,
                (accounts.kind = 'user') <> (seq IS NOT NULL) AS misnumbered
            FROM entries
            LEFT JOIN transfers ON transfers.id = transfer_id
            LEFT JOIN accounts ON accounts.id = account_id
        ) AS found WHERE lost OR misnumbered
        """,
        {
            "lost": "Entry {id} belongs to no transfer or no account.",
            "misnumbered": "Entry {id} is numbered on a house account, or not numbered on a "
            "user's.",
        },
    ),
    (
        """
        SELECT * FROM (
            SELECT transfers.id, transfers.kind,
                (transfers.kind IN ('payment', 'refund')) <> (order_id IS NOT NULL) AS ordered,
                (transfers.kind = 'reversal') <> (reverses_id IS NOT NULL) AS reversing,
                hold_id IS NOT NULL AND transfers.kind <> 'charge' AS capturing,
                -- A reversal goes back along the way of another, which the next check asks about.
                transfers.kind <> 'reversal' AND (giver.kind, taker.kind) IS DISTINCT FROM (
                    CASE transfers.kind WHEN 'grant' THEN 'issuance' WHEN 'refund' THEN 'revenue'
                        ELSE 'user' END,
                    CASE WHEN transfers.kind IN ('charge', 'payment') THEN 'revenue'
                        WHEN transfers.kind = 'forfeit' THEN 'issuance' ELSE 'user' END) AS astray,
                coalesce(giver.kind, 'nobody') AS giver, coalesce(taker.kind, 'nobody') AS taker
            FROM transfers
            LEFT JOIN accounts AS giver ON giver.id = from_account_id
            LEFT JOIN accounts AS taker ON taker.id = to_account_id
        ) AS found WHERE ordered OR reversing OR capturing OR astray
        """,
        {
            "ordered": "Transfer {id} is a {kind}: payments and refunds, and no others, have an "
            "order.",
            "reversing": "Transfer {id} is a {kind}: reversals, and no others, take a transfer "
            "back.",
            "capturing": "Transfer {id} is a {kind}: a hold is captured by a charge.",
            "astray": "Transfer {id} is a {kind}, and goes from {giver} to {taker}.",
        },
    ),
    (
        """
        SELECT *, true AS wrong FROM (
            SELECT back.id, back.reverses_id,
                count(*) OVER (PARTITION BY back.reverses_id) AS times,
                coalesce(gone.kind IN ('grant', 'transfer', 'charge')
                    AND (gone.amount, gone.from_account_id, gone.to_account_id)
                        = (back.amount, back.to_account_id, back.from_account_id), false) AS whole
            FROM transfers AS back LEFT JOIN transfers AS gone ON gone.id = back.reverses_id
            WHERE back.reverses_id IS NOT NULL
        ) AS found WHERE times > 1 OR NOT whole
        """,
        {"wrong": "Transfer {id} does not take {reverses_id} back: whole, once, along its way."},
    ),
    (
        """
        SELECT *, true AS wrong FROM (
            SELECT coalesce(holds.id, hold_id) AS id, coalesce(status, 'missing') AS status,
                CASE status WHEN 'captured' THEN 1 ELSE 0 END AS expected,
                count(charges.id) AS charges,
                count(*) FILTER (WHERE (charges.amount, from_account_id) = (captured, account_id))
                    AS fitting
            FROM holds FULL JOIN (SELECT * FROM transfers WHERE hold_id IS NOT NULL) AS charges
                ON hold_id = holds.id
            GROUP BY 1, status
        ) AS found WHERE charges <> expected OR fitting <> expected
        """,
        {
            "wrong": (
                "Hold {id} ({status}) does not have exactly the charge that captured it.",
                "Hold {id} does not have exactly the charge that captured it.",
            )
        },
    ),
    (
        # What an order says of its money is the orders' table's; what was moved is the ledger's.
        """
        SELECT *, true AS wrong FROM (
            SELECT coalesce(orders.id, order_id) AS id, coalesce(status, 'missing') AS status,
                CASE WHEN paid_at IS NOT NULL THEN total ELSE 0 END AS owed,
                (paid_at IS NOT NULL)
                    <> coalesce(status IN ('paid', 'partially_refunded', 'refunded'), false)
                    AS mistimed,
                coalesce(refunded, 0) AS owed_back, count(moves.id) AS moves,
                count(*) FILTER (WHERE moves.kind = 'payment') AS payments,
                count(*) FILTER (WHERE moves.user_id = orders.user_id) AS fitting,
                coalesce(sum(amount) FILTER (WHERE moves.kind = 'payment'), 0) AS paid,
                coalesce(sum(amount) FILTER (WHERE moves.kind = 'refund'), 0) AS returned
            FROM orders FULL JOIN (
                SELECT transfers.id, order_id, transfers.kind, amount, payer.user_id
                FROM transfers LEFT JOIN accounts AS payer ON payer.id =
                    CASE transfers.kind WHEN 'payment' THEN from_account_id ELSE to_account_id END
                WHERE order_id IS NOT NULL AND transfers.kind IN ('payment', 'refund')
            ) AS moves ON order_id = orders.id
            GROUP BY orders.id, order_id
        ) AS found
        WHERE status = 'missing' OR moves <> fitting OR payments > 1 OR mistimed
            OR (paid, returned) <> (owed, owed_back)
        """,
        {
            "wrong": (
                "Order {id} ({status}) does not have exactly the payment and refunds it tells of.",
                "Order {id} does not have exactly the payment and refunds it tells of.",
            )
        },
    ),
    (
        # Rounded half up to a whole credit, as in the service; by integers, as there.
        """
        SELECT coalesce(orders.id, order_id) AS id, true AS wrong
        FROM orders FULL JOIN (SELECT order_id, sum(total) AS total FROM order_items
                               GROUP BY order_id) AS items ON order_id = orders.id
        WHERE subtotal IS DISTINCT FROM items.total OR discount IS DISTINCT FROM
            div(subtotal::numeric * coalesce(discount_hundredths, 0) + 5000, 10000)
        """,
        {"wrong": "Order {id} does not cost what its items do, less its discount."},
    ),
    (
        """
        SELECT holds.id, true AS wrong FROM holds LEFT JOIN accounts ON accounts.id = account_id
        WHERE accounts.kind IS DISTINCT FROM 'user'
        """,
        {"wrong": "Hold {id} is of no user's account."},
    ),
    (
        """
        SELECT id, true AS wrong FROM users
        WHERE NOT EXISTS (SELECT FROM accounts WHERE user_id = users.id)
        """,
        {"wrong": "User {id} has no account."},
    ),
)
