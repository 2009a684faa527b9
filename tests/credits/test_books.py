"""The database itself keeps the rules that more than one row of the books takes part in."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.credits import ledger
from app.credits.values import TransferKind
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.settings import Settings
from tests.credits.plain_sql import Books, connected
from tests.tracing import unfollowed

pytestmark = unfollowed


def transfer(
    *, kind: str = "transfer", amount: int = 5, sender: str = ":alice", to: str = ":bob"
) -> str:
    """Return an INSERT of a transfer."""
    return (
        "INSERT INTO transfers"
        " (id, kind, amount, from_account_id, to_account_id, actor_kind, created_at)"
        f" VALUES (:new, '{kind}', {amount}, {sender}, {to}, 'user', '2026-01-01Z');"
    )


def entry(account: str, amount: int, *, seq: str = "3", after: str = "1") -> str:
    """Return an INSERT of an entry of that transfer; both users have two entries already."""
    return (
        "INSERT INTO entries"
        " (id, transfer_id, account_id, seq, amount, balance_after, created_at)"
        f" VALUES (gen_random_uuid(), :new, {account}, {seq}, {amount}, {after}, '2026-01-01Z');"
    )


def unnumbered(account: str, amount: int) -> str:
    """Return an INSERT of an entry as house accounts have them."""
    return entry(account, amount, seq="NULL", after="NULL")


# What each is refused by, and the statements.
WRONG = {
    "more than a number can say": (
        "ck_accounts_user_balance",
        "UPDATE accounts SET balance = 9007199254740992 WHERE id = :alice;",
    ),
    "more held than there is": (
        "ck_accounts_user_balance",
        "UPDATE accounts SET held = balance + 1 WHERE id = :alice;",
    ),
    "an account that is not its user's": (
        "ck_accounts_owner",
        "UPDATE accounts SET id = :new WHERE id = :alice;",
    ),
    "a grant from a user": ("ck_transfers_sides", transfer(kind="grant")),
    "a transfer from the house": ("ck_transfers_sides", transfer(sender=":issuance")),
    "a charge for issuance": ("ck_transfers_sides", transfer(kind="charge", to=":issuance")),
    "a charge for a user": ("ck_transfers_sides", transfer(kind="charge")),
    "a charge of the house": (
        "ck_transfers_sides",
        transfer(kind="charge", sender=":issuance", to=":revenue"),
    ),
    "a forfeit for revenue": ("ck_transfers_sides", transfer(kind="forfeit", to=":revenue")),
    "a forfeit for a user": ("ck_transfers_sides", transfer(kind="forfeit")),
    "a forfeit of the house": (
        "ck_transfers_sides",
        transfer(kind="forfeit", sender=":revenue", to=":issuance"),
    ),
    "an amount above 2^53-1": ("ck_transfers_amount", transfer(amount=2**53)),
    "no entries": ("transfers_two_entries", transfer()),
    "one entry": ("transfers_two_entries", transfer() + entry(":alice", -5)),
    "entries for another amount": (
        "transfers_two_entries",
        transfer() + entry(":alice", -4) + entry(":bob", 4),
    ),
    "entries the wrong way round": (
        "transfers_two_entries",
        transfer() + entry(":alice", 5) + entry(":bob", -5),
    ),
    "an entry on another account": (
        "transfers_two_entries",
        transfer() + entry(":alice", -5) + unnumbered(":revenue", 5),
    ),
    "a third entry": (
        "uq_entries_transfer_id_sign",
        transfer() + entry(":alice", -5) + entry(":bob", 5) + unnumbered(":revenue", 1),
    ),
    "a user's entry without a number": (
        "transfers_two_entries",
        transfer() + unnumbered(":alice", -5) + entry(":bob", 5),
    ),
    "a numbered entry of the house": (
        "transfers_two_entries",
        transfer(kind="grant", sender=":issuance") + entry(":issuance", -5) + entry(":bob", 5),
    ),
}
RIGHT = {
    "a transfer": transfer() + entry(":alice", -5) + entry(":bob", 5),
    "a charge": (
        transfer(kind="charge", to=":revenue") + entry(":alice", -5) + unnumbered(":revenue", 5)
    ),
    "a forfeit": (
        transfer(kind="forfeit", to=":issuance") + entry(":alice", -5) + unnumbered(":issuance", 5)
    ),
    "a grant": (
        transfer(kind="grant", sender=":issuance") + unnumbered(":issuance", -5) + entry(":bob", 5)
    ),
}
COMMITTING = "SET CONSTRAINTS ALL IMMEDIATE"


def refusal(settings: Settings, statements: str, books: Books) -> Any:
    """Return the diagnosis of what refuses the statements, at once or when they commit."""
    with (
        connected(settings.database_migration_url) as connection,
        pytest.raises(DBAPIError) as refused,
    ):
        connection.execute(text(statements + COMMITTING), books)
    return refused.value.orig.diag


@pytest.mark.parametrize("case", WRONG)
def test_no_way_leads_around_the_rules(settings: Settings, books: Books, case: str) -> None:
    rule, statements = WRONG[case]
    assert refusal(settings, statements, books).constraint_name == rule


@pytest.mark.parametrize("case", RIGHT)
def test_what_keeps_the_rules_is_taken(settings: Settings, books: Books, case: str) -> None:
    with connected(settings.database_migration_url) as connection:
        connection.execute(text(RIGHT[case] + COMMITTING), books)


# The one before stays for one release: processes that are being replaced still call it.
@pytest.mark.parametrize("function", ["post_transfer_v1", "post_transfer_v2"])
def test_objects_of_the_callers_own_do_not_mislead_the_function(
    settings: Settings, books: Books, function: str
) -> None:
    with connected(settings.database_url) as connection:
        connection.execute(text("CREATE TEMP TABLE accounts AS SELECT * FROM public.accounts"))
        connection.execute(text("UPDATE accounts SET balance = 1000000 WHERE kind = 'user'"))
        with pytest.raises(DBAPIError) as refused:
            connection.execute(
                text(
                    f"SELECT {function}(:new, 'transfer', :alice, :bob, 71, :alice, 'user',"
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
    left = refusal(settings, "DELETE FROM users WHERE id = :alice;", books).constraint_name
    assert left.startswith("fk_")


def test_a_mistake_of_ours_is_not_mistaken_for_a_refusal(books: Books) -> None:
    # Sent by issuance: only a grant may do that, and the database says so by a constraint.
    with pytest.raises(IntegrityError) as refused, transaction() as session:
        ledger.post(
            session,
            transfer_id=books["new"],
            kind=TransferKind.TRANSFER,
            from_user_id=None,
            to_user_id=books["bob"],
            amount=5,
            actor=Actor(kind="system"),
            memo=None,
        )
    assert "ck_transfers_sides" in str(refused.value.orig)
