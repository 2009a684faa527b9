"""`flask credits verify` says nothing about right books, and names every kind of damage.

Damage is planted with plain SQL by the tables' owner, after whatever stands in its way is removed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, text

from app.credits.values import ISSUANCE_ID
from app.credits.verification import BATCH, CHECKS, verify
from app.platform import ids
from app.platform.settings import Settings
from tests.commands import command
from tests.credits.plain_sql import Books, connected
from tests.tracing import unfollowed

pytestmark = unfollowed

UNGUARDED = (
    "ALTER TABLE transfers DISABLE TRIGGER USER",
    "ALTER TABLE entries DISABLE TRIGGER USER",
    "ALTER TABLE account_deltas DISABLE TRIGGER USER",
    "ALTER TABLE accounts DISABLE TRIGGER USER",
    "ALTER TABLE users DISABLE TRIGGER USER",
    "ALTER TABLE holds DISABLE TRIGGER USER",
    "ALTER TABLE orders DISABLE TRIGGER USER",
    "ALTER TABLE orders DROP CONSTRAINT ck_orders_paid_at, DROP CONSTRAINT ck_orders_refunded,"
    " DROP CONSTRAINT ck_orders_discount_rounded",
    "ALTER TABLE order_items DISABLE TRIGGER USER",
    "ALTER TABLE order_items DROP CONSTRAINT fk_order_items_order_id_orders",
    "ALTER TABLE holds DROP CONSTRAINT fk_holds_account_id_accounts",
    "ALTER TABLE transfers DROP CONSTRAINT ck_transfers_order,"
    " DROP CONSTRAINT ck_transfers_reverses, DROP CONSTRAINT ck_transfers_hold,"
    " DROP CONSTRAINT ck_transfers_sides, DROP CONSTRAINT fk_transfers_hold_id_holds,"
    " DROP CONSTRAINT fk_transfers_order_id_orders, DROP CONSTRAINT uq_transfers_reverses_id,"
    " DROP CONSTRAINT fk_transfers_reverses_id_transfers",
    "ALTER TABLE entries DROP CONSTRAINT fk_entries_transfer_id_transfers,"
    " DROP CONSTRAINT fk_entries_account_id_accounts",
    "ALTER TABLE accounts DROP CONSTRAINT ck_accounts_user_balance",
    "DROP INDEX uq_entries_transfer_id_sign, uq_transfers_payment, uq_transfers_hold_id",
)
ADD_ENTRY = (
    "INSERT INTO entries (id, transfer_id, account_id, seq, amount, balance_after, created_at)"
    " VALUES (:new, {values}, (SELECT created_at FROM transfers WHERE id = :transfer))"
)
ADD_USER = (
    "INSERT INTO users SELECT (jsonb_populate_record(users,"
    " jsonb_build_object('id', :new, 'email_key', 'new@example.com'))).*"
    " FROM users WHERE id = :alice"
)
ADD_TRANSFER = (
    "INSERT INTO transfers SELECT (jsonb_populate_record(transfers,"
    " jsonb_build_object('id', :new))).* FROM transfers WHERE id = :transfer"
)


@contextmanager
def damaging(settings: Settings) -> Iterator[Connection]:
    """Give the owner's connection, with every guard of the books removed."""
    with connected(settings.database_migration_url) as connection, connection.begin():
        for statement in UNGUARDED:
            connection.execute(text(statement))
        yield connection


def test_books_without_a_transfer_are_right(empty_database: Settings) -> None:
    assert list(verify()) == []


@pytest.mark.usefixtures("empty_database", "books")
def test_right_books_are_right() -> None:
    assert list(verify()) == []


def test_books_are_right_when_deltas_are_folded(empty_database: Settings, books: Books) -> None:
    with damaging(empty_database) as connection:
        connection.execute(
            text(
                "WITH folded AS (DELETE FROM account_deltas RETURNING amount) UPDATE accounts"
                " SET balance = balance + (SELECT sum(amount) FROM folded) WHERE id = :issuance"
            ),
            books,
        )
    assert list(verify()) == []


DAMAGES = {
    "credits out of nothing": (
        "UPDATE accounts SET balance = balance + 1 WHERE id = :alice",
        "All accounts together hold 1 credits instead of 0.",
        "Account {alice} (user) holds 71, but its entries add up to 70.",
        "Account {alice} has a balance of 71, but its last entry says 70.",
    ),
    "credits moved without a transfer": (
        "UPDATE accounts SET balance = balance + CASE id WHEN :alice THEN 1 ELSE -1 END"
        " WHERE kind = 'user'",
        "Account {alice} (user) holds 71, but its entries add up to 70.",
        "Account {bob} (user) holds 79, but its entries add up to 80.",
        "Account {alice} has a balance of 71, but its last entry says 70.",
        "Account {bob} has a balance of 79, but its last entry says 80.",
    ),
    "a lost delta": (
        "DELETE FROM account_deltas WHERE amount = -50",
        "All accounts together hold 50 credits instead of 0.",
        "Account {issuance} (issuance) holds -100, but its entries add up to -150.",
    ),
    "a delta without an entry": (
        "INSERT INTO account_deltas VALUES (:revenue, 5)",
        "All accounts together hold 5 credits instead of 0.",
        "Account {revenue} (revenue) holds 5, but its entries add up to 0.",
    ),
    "a lost last entry": (
        "DELETE FROM entries WHERE id = :credit",
        "Account {bob} (user) holds 80, but its entries add up to 50.",
        "Account {bob} has a balance of 80, but its last entry says 50.",
        "Account {bob} counts 2 entries, but has 1, of which the last is number 1.",
        "Transfer {transfer} does not have exactly its two entries.",
    ),
    "a lost transfer": (
        "DELETE FROM transfers WHERE id = :transfer",
        "Entry {debit} belongs to no transfer or no account.",
        "Entry {credit} belongs to no transfer or no account.",
    ),
    "a transfer without entries": (
        ADD_TRANSFER,
        "Transfer {new} does not have exactly its two entries.",
    ),
    "a transfer of another amount": (
        "UPDATE transfers SET amount = 31 WHERE id = :transfer",
        "Transfer {transfer} does not have exactly its two entries.",
    ),
    "a transfer to somebody else": (
        "UPDATE transfers SET to_account_id = :new WHERE id = :transfer",
        "Transfer {transfer} does not have exactly its two entries.",
        "Transfer {transfer} is a transfer, and goes from user to nobody.",
    ),
    "a third entry": (
        ADD_ENTRY.format(values=":transfer, :revenue, NULL, 1, NULL"),
        "Account {revenue} (revenue) holds 0, but its entries add up to 1.",
        "Transfer {transfer} does not have exactly its two entries.",
    ),
    "an entry of an account that does not exist": (
        "UPDATE entries SET account_id = :new WHERE id = :credit",
        "Account {bob} (user) holds 80, but its entries add up to 50.",
        "Account {bob} has a balance of 80, but its last entry says 50.",
        "Account {bob} counts 2 entries, but has 1, of which the last is number 1.",
        "Entry 2 of account {new} says a balance of 80 instead of 30.",
        "Transfer {transfer} does not have exactly its two entries.",
        "Entry {credit} belongs to no transfer or no account.",
    ),
    "a wrong count of entries": (
        "UPDATE accounts SET entry_count = 3 WHERE id = :alice",
        "Account {alice} counts 3 entries, but has 2, of which the last is number 2.",
    ),
    "a gap in the numbers": (
        "UPDATE entries SET seq = 3 WHERE id = :debit",
        "Account {alice} counts 2 entries, but has 2, of which the last is number 3.",
    ),
    "a gap that the count hides": (
        "WITH gap AS (UPDATE entries SET seq = 3 WHERE id = :debit)"
        " UPDATE accounts SET entry_count = 3 WHERE id = :alice",
        "Account {alice} counts 3 entries, but has 2, of which the last is number 3.",
    ),
    "a wrong balance in the last entry": (
        "UPDATE entries SET balance_after = 71 WHERE id = :debit",
        "Account {alice} has a balance of 70, but its last entry says 71.",
        "Entry 2 of account {alice} says a balance of 71 instead of 70.",
    ),
    "a wrong balance in an earlier entry": (
        "UPDATE entries SET balance_after = 101 WHERE account_id = :alice AND seq = 1",
        "Entry 1 of account {alice} says a balance of 101 instead of 100.",
    ),
    "a user's entry without a number": (
        "UPDATE entries SET seq = NULL, balance_after = NULL WHERE id = :debit",
        "Account {alice} has a balance of 70, but its last entry says 100.",
        "Account {alice} counts 2 entries, but has 2, of which the last is number 1.",
        "Entry {debit} is numbered on a house account, or not numbered on a user's.",
    ),
    "less than nothing": (
        "UPDATE accounts SET held = 71 WHERE id = :alice",
        "Account {alice} has -1 available, outside of what an account may hold.",
        "Account {alice} holds back 71, but its open holds add up to 0.",
    ),
    "credits held for nothing": (
        "UPDATE accounts SET held = 5 WHERE id = :alice",
        "Account {alice} holds back 5, but its open holds add up to 0.",
    ),
    "a user without an account": (ADD_USER, "User {new} has no account."),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(empty_database: Settings, books: Books, damage: str) -> None:
    statement, *differences = DAMAGES[damage]
    with damaging(empty_database) as connection:
        connection.execute(text(statement), books)
    assert sorted(verify()) == sorted(one.format(**books) for one in differences)


def test_a_numbered_entry_of_a_house_account_is_named(
    empty_database: Settings, books: Books
) -> None:
    statement = (
        "UPDATE entries SET seq = 1, balance_after = 0"
        " WHERE account_id = :issuance AND amount = -100 RETURNING id"
    )
    with damaging(empty_database) as connection:
        entry_id = connection.scalar(text(statement), books)
    assert list(verify()) == [
        f"Entry 1 of account {ISSUANCE_ID} says a balance of 0 instead of -100.",
        f"Entry {entry_id} is numbered on a house account, or not numbered on a user's.",
    ]


def test_an_overfull_account_is_named(empty_database: Settings, books: Books) -> None:
    with damaging(empty_database) as connection:
        connection.execute(
            text("UPDATE accounts SET balance = :most WHERE id = :alice"), books | {"most": 2**53}
        )
    sentence = (
        f"Account {books['alice']} has {2**53} available, outside of what an account may hold."
    )
    assert sentence in list(verify())


def test_every_difference_is_named_however_many_there_are(
    empty_database: Settings, books: Books
) -> None:
    many = 2 * BATCH + 1
    with damaging(empty_database) as connection:
        for _ in range(many):
            connection.execute(text(ADD_TRANSFER), books | {"new": ids.new()})
    assert len(set(verify())) == many


@pytest.mark.parametrize("limit", ["statement_timeout", "idle_in_transaction_session_timeout"])
def test_verifying_may_take_longer_than_a_request_and_whoever_reads_it_may_pause(
    empty_database: Settings, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    asked = f"SELECT current_setting('{limit}') AS allowed, true AS told"
    monkeypatch.setattr("app.credits.verification.CHECKS", ((asked, {"told": "{allowed}"}),))
    assert list(verify()) == ["0"]


def test_the_command_prints_the_differences_and_exits_with_1(
    empty_database: Settings, books: Books
) -> None:
    ended = command(empty_database, "credits", "verify")
    assert (ended.returncode, ended.stdout) == (0, "The books are right: every check passed.\n")
    said = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert said == [f"{one} of {len(CHECKS)} checks, 0 s" for one in range(1, len(CHECKS) + 1)]
    with damaging(empty_database) as connection:
        connection.execute(text("UPDATE accounts SET held = 5 WHERE id = :alice"), books)
    ended = command(empty_database, "credits", "verify")
    sentence = f"Account {books['alice']} holds back 5, but its open holds add up to 0.\n"
    assert (ended.returncode, ended.stdout) == (1, sentence)
