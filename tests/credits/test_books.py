"""The database itself keeps the rules of the books, against the owner and the application alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from app.credits import service
from app.credits.values import ISSUANCE_ID, REVENUE_ID
from app.platform import ids
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.settings import Settings

Books = dict[str, Any]

TABLES = "('accounts', 'account_deltas', 'transfers', 'entries')"
TRANSFER = (
    "INSERT INTO transfers (id, kind, amount, from_account_id, to_account_id, reverses_id,"
    " actor_kind, request_id, memo, created_at) VALUES (:new, {kind}, {amount}, {sender}, :bob,"
    " {reverses}, {actor_kind}, {request_id}, {memo}, '2026-01-01Z')"
)
ENTRY = (
    "INSERT INTO entries (id, transfer_id, account_id, seq, amount, balance_after, created_at)"
    " VALUES ({id}, {transfer}, {account}, {seq}, {amount}, {after}, '2026-01-01Z')"
)


def transfer(**columns: str) -> str:
    """Return an INSERT of a transfer, right but for what `columns` say."""
    right = {
        "kind": "'transfer'",
        "amount": "5",
        "sender": ":alice",
        "reverses": "NULL",
        "actor_kind": "'user'",
        "request_id": "NULL",
        "memo": "NULL",
    }
    return TRANSFER.format(**right | columns)


def entry(**columns: str) -> str:
    """Return an INSERT of a third entry for Alice, right but for what `columns` say."""
    right = {
        "id": ":new",
        "transfer": ":new",
        "account": ":alice",
        "seq": "3",
        "amount": "5",
        "after": "75",
    }
    return ENTRY.format(**right | columns)


# Each constraint, unique index and trigger of the books, with a statement that trips it.
TRIPS = {
    "pk_accounts": "INSERT INTO accounts (id, kind) VALUES (:issuance, 'revenue')",
    "uq_accounts_user_id": "UPDATE accounts SET user_id = :bob WHERE id = :alice",
    "uq_accounts_house_kind": "INSERT INTO accounts (id, kind) VALUES (:new, 'issuance')",
    "fk_accounts_user_id_users": (
        "INSERT INTO accounts (id, user_id, kind) VALUES (:new, :new, 'user')"
    ),
    "ck_accounts_kind": "INSERT INTO accounts (id, kind) VALUES (:new, 'savings')",
    "ck_accounts_owner": "INSERT INTO accounts (id, kind) VALUES (:new, 'user')",
    "ck_accounts_held": "UPDATE accounts SET held = -1 WHERE id = :alice",
    "ck_accounts_user_balance": "UPDATE accounts SET balance = -1 WHERE id = :alice",
    "ck_accounts_entry_count": "UPDATE accounts SET entry_count = 1 WHERE id = :issuance",
    "accounts_refuse_delete": "DELETE FROM accounts WHERE id = :alice",
    "accounts_refuse_truncate": "TRUNCATE accounts CASCADE",
    "fk_account_deltas_account_id_accounts": "INSERT INTO account_deltas VALUES (:new, 1)",
    "ck_account_deltas_amount": "INSERT INTO account_deltas VALUES (:issuance, 0)",
    "account_deltas_refuse_change": "UPDATE account_deltas SET amount = amount + 1",
    "account_deltas_refuse_truncate": "TRUNCATE account_deltas",
    "pk_transfers": transfer().replace(":new", ":transfer"),
    "ck_transfers_kind": transfer(kind="'gift'"),
    "ck_transfers_amount": transfer(amount="0"),
    "ck_transfers_accounts_differ": transfer(sender=":bob"),
    "ck_transfers_sides": transfer(sender=":issuance"),
    "ck_transfers_actor_kind": transfer(actor_kind="'anonymous'"),
    "ck_transfers_request_id": transfer(request_id="''"),
    "ck_transfers_memo": transfer(memo="repeat('x', 501)"),
    "fk_transfers_reverses_id_transfers": transfer(reverses=":new2"),
    "uq_transfers_reverses_id": (
        transfer(reverses=":transfer")
        + "; "
        + transfer(reverses=":transfer").replace(":new,", ":new2,")
    ),
    "transfers_two_entries": transfer(),
    "transfers_refuse_change": "UPDATE transfers SET memo = 'x' WHERE id = :transfer",
    "transfers_refuse_truncate": "TRUNCATE transfers CASCADE",
    "pk_entries": entry(id=":debit"),
    "fk_entries_transfer_id_transfers": entry(),
    "fk_entries_account_id_accounts": entry(account=":new"),
    "uq_entries_account_id_seq": entry(seq="2"),
    "uq_entries_transfer_id_sign": entry(transfer=":transfer", account=":revenue"),
    "ck_entries_seq": entry(seq="0"),
    "ck_entries_amount": entry(amount="0"),
    "ck_entries_balance_after": entry(after="-1"),
    "ck_entries_seq_and_balance_after": entry(seq="NULL"),
    "entries_refuse_change": "UPDATE entries SET amount = amount WHERE id = :debit",
    "entries_refuse_truncate": "TRUNCATE entries",
}
# Other ways into the same rules.
MORE = {
    "a transfer deleted": "DELETE FROM transfers WHERE id = :transfer",
    "an entry deleted": "DELETE FROM entries WHERE id = :debit",
    "a user's account above 2^53-1": "UPDATE accounts SET balance = 9007199254740992"
    " WHERE id = :alice",
    "more held than there is": "UPDATE accounts SET held = balance + 1 WHERE id = :alice",
    "an account that is not its user's": "UPDATE accounts SET id = :new WHERE id = :alice",
    "a grant from a user": transfer(kind="'grant'"),
    "a transfer above 2^53-1": transfer(amount="9007199254740992"),
    "entries for another amount": transfer()
    + "; "
    + entry(amount="-4", after="66")
    + "; "
    + entry(id=":new2", account=":bob", amount="4", after="84"),
    "entries on another account": transfer()
    + "; "
    + entry(amount="-5", after="65")
    + "; "
    + entry(id=":new2", account=":revenue", seq="NULL", after="NULL"),
    "a user's entry without a number": transfer()
    + "; "
    + entry(amount="-5", seq="NULL", after="NULL")
    + "; "
    + entry(id=":new2", account=":bob", after="85"),
    "a numbered entry of the house": transfer(kind="'grant'", sender=":issuance")
    + "; "
    + entry(account=":issuance", amount="-5", after="0")
    + "; "
    + entry(id=":new2", account=":bob", after="85"),
}
RIGHT = (
    transfer()
    + "; "
    + entry(amount="-5", after="65")
    + "; "
    + entry(id=":new2", account=":bob", after="85")
)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection in a transaction that is rolled back in the end."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@pytest.fixture
def books(make_user: Callable[..., Any], sql: Any) -> Books:
    """Two users with a grant each, and a transfer of 30 from Alice (100) to Bob (50)."""
    alice, bob = make_user(credits=100).id, make_user(credits=50).id
    with transaction() as session:
        made = service.transfer(
            session, actor=Actor(kind="user", user_id=alice), to_user_id=bob, amount=30, memo=None
        )
    (debit,) = sql("SELECT id FROM entries WHERE transfer_id = :id AND amount < 0", id=made.id)[0]
    return {
        "alice": alice,
        "bob": bob,
        "transfer": made.id,
        "debit": debit,
        "new": ids.new(),
        "new2": ids.new(),
        "issuance": ISSUANCE_ID,
        "revenue": REVENUE_ID,
    }


def refusal(settings: Settings, statements: str, books: Books) -> Any:
    """Return the diagnosis of what refuses the statements, at once or when they commit."""
    with (
        connected(settings.database_migration_url) as connection,
        pytest.raises(DBAPIError) as refused,
    ):
        connection.execute(text(statements), books)
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    return refused.value.orig


@pytest.mark.parametrize("name", TRIPS)
def test_every_rule_of_the_books_stands_in_the_database(
    settings: Settings, books: Books, name: str
) -> None:
    error = refusal(settings, TRIPS[name], books)
    if "_refuse_" in name:
        assert error.pgcode == "23001"
        assert error.diag.table_name == name.partition("_refuse_")[0]
        assert "refuse_change_v1" in error.diag.context
    else:
        assert error.diag.constraint_name == name


@pytest.mark.parametrize("case", MORE)
def test_no_way_leads_around_the_rules(settings: Settings, books: Books, case: str) -> None:
    assert refusal(settings, MORE[case], books).pgcode.startswith("23")


def test_what_keeps_the_rules_is_taken(settings: Settings, books: Books) -> None:
    with connected(settings.database_migration_url) as connection:
        connection.execute(text(RIGHT), books)
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))


@pytest.mark.usefixtures("pool")
def test_every_rule_in_the_catalogue_has_a_statement_that_trips_it(sql: Any) -> None:
    constraints = (
        f"SELECT conname FROM pg_constraint WHERE conrelid::regclass::text IN {TABLES}"
        " AND contype <> 'n'"
    )
    indexes = (
        f"SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid::regclass::text IN {TABLES}"
        " AND indisunique"
    )
    triggers = (
        f"SELECT tgname FROM pg_trigger WHERE tgrelid::regclass::text IN {TABLES}"
        " AND NOT tgisinternal"
    )
    found = {name for query in (constraints, indexes, triggers) for (name,) in sql(query)}
    assert found == set(TRIPS)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET balance = balance + 1 WHERE id = :alice",
        "SELECT FROM accounts WHERE id = :alice FOR UPDATE",
        "INSERT INTO accounts (id, kind) VALUES (:new, 'user')",
        "DELETE FROM accounts WHERE id = :alice",
        "INSERT INTO account_deltas VALUES (:issuance, 1)",
        "DELETE FROM account_deltas",
        "UPDATE account_deltas SET amount = 1",
        transfer(),
        "UPDATE transfers SET memo = 'x'",
        "DELETE FROM transfers",
        "TRUNCATE transfers",
        entry(),
        "UPDATE entries SET amount = 1",
        "DELETE FROM entries",
        "TRUNCATE entries",
        "ALTER TABLE entries DISABLE TRIGGER USER",
        "DROP TABLE account_deltas",
        "CREATE TABLE public.mine (id int)",
        "SELECT check_transfer_v1()",
        "SELECT open_account_v1()",
    ],
)
def test_the_application_may_only_read_the_books(
    settings: Settings, books: Books, statement: str
) -> None:
    with (
        connected(settings.database_url) as connection,
        pytest.raises(DBAPIError) as refused,
    ):
        connection.execute(text(statement), books)
    assert refused.value.orig.pgcode == "42501"


@pytest.mark.usefixtures("pool")
def test_only_the_application_calls_the_function_and_its_path_is_fixed(sql: Any) -> None:
    functions = sql(
        "SELECT proname, prosecdef, proconfig, has_function_privilege('public', oid, 'EXECUTE')"
        " FROM pg_proc WHERE proname IN ('post_transfer_v1', 'check_transfer_v1', 'open_account_v1')"
    )
    path = ["search_path=pg_catalog, public, pg_temp"]
    assert sorted(tuple(row) for row in functions) == [
        ("check_transfer_v1", True, path, False),
        ("open_account_v1", True, path, False),
        ("post_transfer_v1", True, path, False),
    ]


def test_objects_of_the_callers_own_do_not_mislead_the_function(
    settings: Settings, books: Books
) -> None:
    with connected(settings.database_url) as connection:
        connection.execute(text("CREATE TEMP TABLE accounts AS SELECT * FROM public.accounts"))
        connection.execute(text("UPDATE accounts SET balance = 1000000 WHERE kind = 'user'"))
        with pytest.raises(DBAPIError) as refused:
            connection.execute(
                text(
                    "SELECT post_transfer_v1(:new, 'transfer', :alice, :bob, 71, :alice, 'user',"
                    " NULL, NULL, '2026-01-01Z', :new, :new2)"
                ),
                books,
            )
    assert refused.value.orig.pgcode == "AC402"


def test_a_user_has_an_account_from_the_first_moment_and_for_ever(
    settings: Settings, books: Books, sql: Any
) -> None:
    (account,) = sql("SELECT user_id, kind FROM accounts WHERE id = :id", id=books["alice"])
    assert tuple(account) == (books["alice"], "user")
    assert refusal(settings, "DELETE FROM users WHERE id = :alice", books).pgcode == "23503"
