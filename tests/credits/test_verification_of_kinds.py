"""What belongs to transfers is checked with them: holds, orders, and what they take back."""

from typing import Any

import pytest
from sqlalchemy import text

from app.credits.verification import verify
from app.platform.settings import Settings
from tests.credits.filling import fill
from tests.credits.plain_sql import connected
from tests.credits.test_verification import damaging
from tests.tracing import unfollowed

pytestmark = unfollowed

ONE = "(SELECT id FROM transfers WHERE {} ORDER BY id LIMIT 1)"
SOME_HOLD = "(SELECT id FROM holds WHERE status = '{}' ORDER BY id LIMIT 1)"
NEW_HOLD = (
    "INSERT INTO holds SELECT (jsonb_populate_record(holds, jsonb_build_object('id',"
    " '00000000-0000-7000-8000-00000000000f', 'account_id', '{account}'))).*"
    " FROM holds WHERE id = " + SOME_HOLD.format("released")
)
CAPTURE = ONE.format("hold_id IS NOT NULL")
# The last of its kind, for the first is reversed.
CHARGE = ONE.format("kind = 'charge' AND hold_id IS NULL").replace(
    "ORDER BY id", "ORDER BY id DESC"
)
PAYMENT, TRANSFER = ONE.format("kind = 'payment'"), ONE.format("kind = 'transfer'")
GRANT = ONE.format("kind = 'grant'")
REVERSAL, REFUND = ONE.format("kind = 'reversal'"), ONE.format("kind = 'refund'")
BEFORE = "(SELECT old.{0} FROM transfers AS old WHERE old.id = transfers.id) AS {0}"
ORDER = "Order {order_id} ({status}) does not have exactly the payment and refunds it tells of."
COSTS = "Order {order_id} does not cost what its items do, less its discount."
ASTRAY = "Transfer {{id}} is a {}, and goes from {} to {}."
TWO_ENTRIES = "Transfer {id} does not have exactly its two entries."
# All orders here are paid and then refunded.
MISSING, KNOWN = ORDER.replace("{status}", "missing"), ORDER.replace("{status}", "refunded")

# What changes, and what is said of the row that it returns, in one sentence or more.
DAMAGES = {
    "a hold that the account doesn't know of": (
        f"UPDATE holds SET amount = amount + 1 WHERE id = {SOME_HOLD.format('held')}"
        " RETURNING account_id AS id",
        "Account {id} holds back 5, but its open holds add up to 6.",
    ),
    "a hold that was released by nobody": (
        "UPDATE holds SET status = 'released', ended_at = expires_at"
        f" WHERE id = {SOME_HOLD.format('held')} RETURNING account_id AS id",
        "Account {id} holds back 5, but its open holds add up to 0.",
    ),
    "a hold that nothing was taken of": (
        f"UPDATE transfers SET hold_id = NULL WHERE id = {CAPTURE}"
        " RETURNING (SELECT old.hold_id FROM transfers AS old WHERE old.id = transfers.id) AS id",
        "Hold {id} (captured) does not have exactly the charge that captured it.",
    ),
    "a hold that too much was taken of": (
        f"UPDATE holds SET captured = captured - 1 WHERE id = {SOME_HOLD.format('captured')}"
        " RETURNING id",
        "Hold {id} (captured) does not have exactly the charge that captured it.",
    ),
    "a hold of somebody else": (
        "UPDATE holds SET account_id = (SELECT id FROM accounts"
        " WHERE kind = 'user' AND id <> holds.account_id ORDER BY id LIMIT 1)"
        f" WHERE id = {SOME_HOLD.format('captured')} RETURNING id",
        "Hold {id} (captured) does not have exactly the charge that captured it.",
    ),
    "a hold that was taken twice": (
        "UPDATE transfers SET hold_id = captured.hold_id"
        f" FROM (SELECT hold_id FROM transfers WHERE id = {CAPTURE}) AS captured"
        f" WHERE id = {CHARGE} RETURNING captured.hold_id AS id",
        "Hold {id} (captured) does not have exactly the charge that captured it.",
    ),
    "a hold that was released and taken": (
        f"UPDATE transfers SET hold_id = {SOME_HOLD.format('released')}"
        f" WHERE id = {CHARGE} RETURNING hold_id AS id",
        "Hold {id} (released) does not have exactly the charge that captured it.",
    ),
    "a charge of a hold that doesn't exist": (
        f"UPDATE transfers SET hold_id = id WHERE id = {CHARGE} RETURNING id",
        "Hold {id} (missing) does not have exactly the charge that captured it.",
    ),
    "a payment of a hold": (
        f"UPDATE transfers SET kind = 'payment', order_id = id WHERE id = {CAPTURE}"
        " RETURNING id, order_id",
        "Transfer {id} is a payment: a hold is captured by a charge.",
        MISSING,
    ),
    "a hold of nobody": (
        NEW_HOLD.format(account="00000000-0000-7000-8000-00000000000e") + " RETURNING id",
        "Hold {id} is of no user's account.",
    ),
    "a hold of the house": (
        NEW_HOLD.format(account="00000000-0000-7000-8000-000000000002") + " RETURNING id",
        "Hold {id} is of no user's account.",
    ),
    "a payment without an order": (
        f"UPDATE transfers SET order_id = NULL WHERE id = {PAYMENT}"
        f" RETURNING id, {BEFORE.format('order_id')}",
        "Transfer {id} is a payment: payments and refunds, and no others, have an order.",
        KNOWN,
    ),
    "a charge for an order": (
        f"UPDATE transfers SET order_id = id WHERE id = {CHARGE} RETURNING id",
        "Transfer {id} is a charge: payments and refunds, and no others, have an order.",
    ),
    "a reversal of nothing": (
        f"UPDATE transfers SET reverses_id = NULL WHERE id = {REVERSAL} RETURNING id",
        "Transfer {id} is a reversal: reversals, and no others, take a transfer back.",
    ),
    "a refund that takes a charge back": (
        f"UPDATE transfers SET kind = 'refund', order_id = id WHERE id = {REVERSAL}"
        " RETURNING id, order_id",
        "Transfer {id} is a refund: reversals, and no others, take a transfer back.",
        MISSING,
    ),
    "a reversal of something else": (
        f"UPDATE transfers SET reverses_id = {TRANSFER}"
        f" WHERE id = {REVERSAL} RETURNING id, reverses_id",
        "Transfer {id} does not take {reverses_id} back: whole, once, along its way.",
    ),
    "a reversal of what doesn't exist": (
        "UPDATE transfers SET reverses_id = gen_random_uuid()"
        f" WHERE id = {REVERSAL} RETURNING id, reverses_id",
        "Transfer {id} does not take {reverses_id} back: whole, once, along its way.",
    ),
    "a reversal of a payment": (
        "UPDATE transfers SET kind = 'payment', order_id = id WHERE id ="
        f" (SELECT reverses_id FROM transfers WHERE id = {REVERSAL})"
        " RETURNING (SELECT back.id FROM transfers AS back WHERE back.reverses_id = transfers.id)"
        " AS id, id AS reverses_id, order_id",
        "Transfer {id} does not take {reverses_id} back: whole, once, along its way.",
        MISSING,
    ),
    "an order that was paid by nothing": (
        f"UPDATE transfers SET kind = 'charge', order_id = NULL WHERE id = {PAYMENT}"
        f" RETURNING {BEFORE.format('order_id')}",
        KNOWN,
    ),
    "an order that was refunded by nothing": (
        f"UPDATE transfers SET kind = 'grant', order_id = NULL WHERE id = {REFUND}"
        f" RETURNING {BEFORE.format('order_id')}, id",
        KNOWN,
        ASTRAY.format("grant", "revenue", "user"),
    ),
    "an order that was paid twice": (
        "UPDATE transfers SET kind = 'payment', order_id = paid.order_id"
        f" FROM (SELECT order_id FROM transfers WHERE id = {PAYMENT}) AS paid"
        f" WHERE id = {TRANSFER} RETURNING paid.order_id, id",
        KNOWN,
        ASTRAY.format("payment", "user", "user"),
    ),
    "an order that costs more than was paid": (
        "UPDATE orders SET status = 'partially_refunded', subtotal = subtotal + 1,"
        " total = total + 1"
        f" WHERE id = (SELECT order_id FROM transfers WHERE id = {PAYMENT})"
        " RETURNING id AS order_id, status",
        ORDER,
        COSTS,
    ),
    "an order that forgot its payment": (
        "UPDATE orders SET status = 'placed', paid_at = NULL, refunded = 0"
        f" WHERE id = (SELECT order_id FROM transfers WHERE id = {PAYMENT})"
        " RETURNING id AS order_id, status",
        ORDER,
    ),
    "an order that forgot its refund": (
        "UPDATE orders SET status = 'paid', refunded = 0"
        f" WHERE id = (SELECT order_id FROM transfers WHERE id = {REFUND})"
        " RETURNING id AS order_id, status",
        ORDER,
    ),
    "an order that says when it was paid and not that it was": (
        "UPDATE orders SET status = 'placed'"
        f" WHERE id = (SELECT order_id FROM transfers WHERE id = {PAYMENT})"
        " RETURNING id AS order_id, status",
        ORDER,
    ),
    "an order without items": (
        "DELETE FROM order_items WHERE order_id ="
        f" (SELECT order_id FROM transfers WHERE id = {PAYMENT}) RETURNING order_id",
        COSTS,
    ),
    "an order of something cheaper": (
        "UPDATE order_items SET unit_price = unit_price - 1, total = total - 1 WHERE order_id ="
        f" (SELECT order_id FROM transfers WHERE id = {PAYMENT}) RETURNING order_id",
        COSTS,
    ),
    "an order for which a discount wasn't taken off": (
        "WITH half AS (INSERT INTO discounts (id, code, code_key, hundredths, redeemed, active,"
        " version) VALUES (gen_random_uuid(), 'A', 'a', 5000, 1, true, 1) RETURNING id)"
        " UPDATE orders SET discount_id = half.id, discount_code = 'A', discount_hundredths = 5000"
        f" FROM half WHERE orders.id = (SELECT order_id FROM transfers WHERE id = {PAYMENT})"
        " RETURNING orders.id AS order_id",
        COSTS,
    ),
    "items of an order that doesn't exist": (
        "INSERT INTO order_items SELECT (jsonb_populate_record(order_items, jsonb_build_object("
        "'order_id', gen_random_uuid()))).* FROM order_items LIMIT 1 RETURNING order_id",
        COSTS,
    ),
    "an order that somebody else has paid": (
        "UPDATE orders SET user_id = (SELECT id FROM users WHERE id <> user_id ORDER BY id LIMIT 1)"
        f" WHERE id = (SELECT order_id FROM transfers WHERE id = {PAYMENT})"
        " RETURNING id AS order_id, status",
        ORDER,
    ),
}

DAMAGES |= {
    f"a {kind} from {giver} to {taker}": (
        f"UPDATE transfers SET kind = '{kind}'{more} WHERE id = {chosen} RETURNING id, order_id",
        ASTRAY.format(kind, giver, taker),
        *others,
    )
    for kind, chosen, giver, taker, more, *others in (
        ("grant", TRANSFER, "user", "user", ""),
        ("transfer", CHARGE, "user", "revenue", ""),
        ("charge", TRANSFER, "user", "user", ""),
        ("refund", PAYMENT, "user", "revenue", "", KNOWN),
        ("forfeit", TRANSFER, "user", "user", ""),
        ("grant", GRANT, "nobody", "user", ", from_account_id = gen_random_uuid()", TWO_ENTRIES),
    )
}


@pytest.fixture
def filled(empty_database: Settings) -> Settings:
    """A database with 200 transfers of every kind, among 20 users."""
    with connected(empty_database.database_migration_url) as connection, connection.begin():
        fill(connection, users=20, transfers=200)
    return empty_database


def test_right_books_of_every_kind_are_right(filled: Settings) -> None:
    with connected(filled.database_migration_url) as connection:
        kinds = connection.scalars(text("SELECT DISTINCT kind FROM transfers"))
        assert {"grant", "transfer", "charge", "payment", "refund", "reversal"} == set(kinds)
        assert connection.scalar(text("SELECT count(*) FROM account_deltas")) > 0
    assert list(verify()) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(filled: Settings, damage: str) -> None:
    statement, *sentences = DAMAGES[damage]
    with damaging(filled) as connection:
        damaged: Any = connection.execute(text(statement)).mappings().one()
    assert sorted(verify()) == sorted(sentence.format(**damaged) for sentence in sentences)
