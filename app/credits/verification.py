"""Checks the books: what every posting kept to must still be true of all of them together."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import text

from app.platform.db import snapshot

# Rows fetched at a time: memory stays the same however many differences there are.
BATCH: Final = 1000

# Each check is a sentence and the query of everything it is true of. All are needed: entries can
# add up to zero while balances don't, and the other way round.
CHECKS: Final = (
    (
        "All accounts together hold {total} credits instead of 0.",
        """
        SELECT total FROM (
            SELECT coalesce((SELECT sum(balance) FROM accounts), 0)
                 + coalesce((SELECT sum(amount) FROM account_deltas), 0) AS total
        ) AS books WHERE total <> 0
        """,
    ),
    (
        "Account {id} ({kind}) holds {holds}, but its entries add up to {posted}.",
        """
        SELECT id, kind, balance + coalesce(unfolded, 0) AS holds, coalesce(posted, 0) AS posted
        FROM accounts
        LEFT JOIN (SELECT account_id AS id, sum(amount) AS posted
                   FROM entries GROUP BY account_id) AS posted USING (id)
        LEFT JOIN (SELECT account_id AS id, sum(amount) AS unfolded
                   FROM account_deltas GROUP BY account_id) AS unfolded USING (id)
        WHERE balance + coalesce(unfolded, 0) <> coalesce(posted, 0)
        """,
    ),
    (
        "Account {id} has a balance of {balance}, but its last entry says {balance_after}.",
        """
        SELECT accounts.id, balance, balance_after
        FROM accounts
        LEFT JOIN LATERAL (
            SELECT balance_after FROM entries
            WHERE account_id = accounts.id ORDER BY seq DESC NULLS LAST LIMIT 1
        ) AS last ON true
        WHERE kind = 'user' AND balance <> coalesce(balance_after, 0)
        """,
    ),
    (
        "Account {id} counts {entry_count} entries, but has {entries}, of which the last is "
        "number {last}.",
        """
        SELECT id, entry_count, coalesce(entries, 0) AS entries, coalesce(last, 0) AS last
        FROM accounts
        LEFT JOIN (SELECT account_id AS id, count(*) AS entries, max(seq) AS last
                   FROM entries GROUP BY account_id) AS posted USING (id)
        WHERE kind = 'user' AND (entry_count, entry_count)
            <> (coalesce(entries, 0), coalesce(last, 0))
        """,
    ),
    (
        "Entry {seq} of account {account_id} says a balance of {balance_after} instead of "
        "{running}.",
        """
        SELECT seq, account_id, balance_after, running FROM (
            SELECT seq, account_id, balance_after,
                sum(amount) OVER (PARTITION BY account_id ORDER BY seq) AS running
            FROM entries WHERE seq IS NOT NULL
        ) AS posted WHERE balance_after <> running
        """,
    ),
    (
        "Transfer {id} does not have exactly its two entries.",
        """
        SELECT transfers.id
        FROM transfers LEFT JOIN entries ON entries.transfer_id = transfers.id
        GROUP BY transfers.id
        HAVING count(entries.id) <> 2 OR count(*) FILTER (
            WHERE (entries.account_id, entries.amount)
                IN ((from_account_id, -transfers.amount), (to_account_id, transfers.amount))
        ) <> 2
        """,
    ),
    (
        "Entry {id} belongs to no transfer or no account.",
        """
        SELECT entries.id FROM entries
        LEFT JOIN transfers ON transfers.id = transfer_id
        LEFT JOIN accounts ON accounts.id = account_id
        WHERE transfers.id IS NULL OR accounts.id IS NULL
        """,
    ),
    (
        "Entry {id} is numbered on a house account, or not numbered on a user's.",
        """
        SELECT entries.id FROM entries JOIN accounts ON accounts.id = account_id
        WHERE (kind = 'user') <> (seq IS NOT NULL)
        """,
    ),
    (
        "Account {id} has {available} available, outside of what an account may hold.",
        """
        SELECT id, balance - held AS available FROM accounts
        WHERE kind = 'user' AND (balance - held < 0 OR balance > 9007199254740991)
        """,
    ),
    (
        "Account {id} holds back {held}, but its open holds add up to {open}.",
        """
        SELECT id, held, coalesce(open, 0) AS open
        FROM accounts
        LEFT JOIN (SELECT account_id AS id, sum(amount) AS open
                   FROM holds WHERE status = 'held' GROUP BY account_id) AS placed USING (id)
        WHERE held <> coalesce(open, 0)
        """,
    ),
    (
        "User {id} has no account.",
        "SELECT id FROM users WHERE NOT EXISTS (SELECT FROM accounts WHERE user_id = users.id)",
    ),
)


def verify() -> Iterator[str]:
    """Give what is wrong with the books, one sentence at a time; nothing when they are right.

    All checks see the same moment and disturb nobody. Time grows with the books, memory doesn't.
    Must be read to its end or closed: the snapshot is open until then.

    Raises Unavailable.
    """
    with snapshot() as session:
        # The limit of a request's statements: these read everything.
        session.execute(text("SET LOCAL statement_timeout = 0"))
        for sentence, query in CHECKS:
            differences = session.execute(text(query), execution_options={"yield_per": BATCH})
            for difference in differences.mappings():
                yield sentence.format(**difference)
