"""What a freeze was lifted in spite of freezes nothing again; whatever is new does."""

import pytest
from sqlalchemy import text

from app.credits import keeping, service, state
from app.platform.actor import Actor
from app.platform.db import transaction
from app.platform.settings import Settings
from tests.commands import command
from tests.credits.filling import fill
from tests.credits.plain_sql import Books, connected

OPERATOR = Actor(kind="cli")
TABLES = ("accounts", "entries")
# Damage that is named otherwise, or in other places, as others go on posting on the same account.
LASTING = {
    "a balance": "UPDATE accounts SET balance = balance + 1 WHERE id = :alice",
    "an earlier entry": "UPDATE entries SET balance_after = 101 WHERE account_id = :alice"
    " AND seq = 1",
    "the last entry": "UPDATE entries SET balance_after = 71 WHERE id = :debit",
    "a wrong count": "UPDATE accounts SET entry_count = 3 WHERE id = :alice",
    "a gap that the count hides": "WITH gap AS (UPDATE entries SET seq = 3 WHERE id = :debit)"
    " UPDATE accounts SET entry_count = 3 WHERE id = :alice",
    "credits held for nothing": "UPDATE accounts SET held = 5 WHERE id = :alice",
}


def damage(settings: Settings, statement: str, books: Books) -> None:
    """Change the books as the tables' owner, past the triggers, which are back afterwards."""
    with connected(settings.database_migration_url) as connection, connection.begin():
        for table in TABLES:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        connection.execute(text(statement), books)
        for table in TABLES:
            connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))


def post(books: Books) -> None:
    """Let credits go both ways: other sentences are true of the same damage afterwards."""
    for sender, recipient in (("alice", "bob"), ("bob", "alice")):
        with transaction() as session:
            service.transfer(
                session,
                actor=Actor(kind="user", user_id=books[sender]),
                to_user_id=books[recipient],
                amount=7,
                memo=None,
            )


@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_is_known_again_while_others_go_on_posting(
    empty_database: Settings, books: Books, kind: str
) -> None:
    damage(empty_database, LASTING[kind], books)
    assert keeping.check() > 0
    keeping.unfreeze(actor=OPERATOR)
    post(books)
    assert keeping.check() > 0
    assert state.read().frozen_at is None
    # What is known is by now what the second check has found.
    post(books)
    assert keeping.check() > 0
    assert state.read().frozen_at is None


def test_a_new_difference_freezes_the_books_and_is_what_the_reason_says(
    empty_database: Settings, books: Books
) -> None:
    damage(empty_database, LASTING["credits held for nothing"], books)
    assert keeping.check() == 1
    keeping.unfreeze(actor=OPERATOR)
    damage(empty_database, "UPDATE accounts SET held = 1 WHERE id = :bob", books)
    assert keeping.check() == 2
    reason = f"Account {books['bob']} holds back 1, but its open holds add up to 0."
    assert (state.read().frozen_reason, state.read().differences) == (reason, 2)


def test_a_difference_that_grows_is_new(empty_database: Settings, books: Books) -> None:
    damage(empty_database, LASTING["credits held for nothing"], books)
    assert keeping.check() == 1
    keeping.unfreeze(actor=OPERATOR)
    damage(empty_database, "UPDATE accounts SET held = 6 WHERE id = :alice", books)
    assert keeping.check() == 1
    assert state.read().frozen_at is not None


def test_what_was_put_right_and_is_wrong_again_is_new(
    empty_database: Settings, books: Books
) -> None:
    damage(empty_database, LASTING["credits held for nothing"], books)
    assert keeping.check() == 1
    keeping.unfreeze(actor=OPERATOR)
    damage(empty_database, "UPDATE accounts SET held = 0 WHERE id = :alice", books)
    assert keeping.check() == 0
    damage(empty_database, LASTING["credits held for nothing"], books)
    assert keeping.check() == 1
    assert state.read().frozen_at is not None


def test_more_than_can_be_known_is_news_every_time(
    empty_database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(empty_database.database_migration_url) as connection, connection.begin():
        fill(connection, users=20, transfers=200)
    monkeypatch.setattr(keeping, "MOST_KNOWN", 19)
    damage(
        empty_database, "UPDATE accounts SET entry_count = entry_count + 1 WHERE kind = 'user'", {}
    )
    assert keeping.check() == 20
    assert state.read().known == 0
    said = command(empty_database, "credits", "unfreeze").stdout
    assert "They are too many to know them again: the next one freezes it again." in said
    assert keeping.check() == 20
    assert state.read().frozen_at is not None
    monkeypatch.setattr(keeping, "MOST_KNOWN", 20)
    assert (keeping.check(), state.read().known) == (20, 20)
