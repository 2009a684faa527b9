"""What trips each constraint and each trigger of the database, in plain SQL."""

from tests.valid_rows import ALICE, BOB, CAROL, NEW, NOBODY, OTHER, REVENUE, THING, TIME, insert

REVERSAL = insert(
    "transfers", kind="'reversal'", from_account_id=ALICE, to_account_id=BOB, reverses_id=THING
)

TO_REVENUE = {"from_account_id": ALICE, "to_account_id": REVENUE}
CAPTURE = insert("transfers", kind="'charge'", **TO_REVENUE, hold_id=THING)
PAYMENT = insert("transfers", kind="'payment'", **TO_REVENUE, order_id=THING)
DISCOUNT = {"discount_id": THING, "discount_code": "'code'"}
# What an order begins with is asked before what it may ever be.
UNGUARDED = "ALTER TABLE orders DISABLE TRIGGER orders_guard_new;"

CHECKED = "UPDATE ledger_state SET checked_at = {}, check_seconds = {}, differences = {}"


def told(event: str, subject: str) -> str:
    """Return the question whether an event about this subject waits to be told."""
    return (
        "SELECT EXISTS (SELECT FROM outbox_events"
        f" WHERE topic = '{event}' AND subject_id = {subject})"
    )


CONSTRAINTS: dict[str, str] = {
    "ck_account_deltas_amount": insert("account_deltas", amount="0"),
    "ck_accounts_entry_count": f"UPDATE accounts SET entry_count = -1 WHERE id = {ALICE}",
    "ck_accounts_held": f"UPDATE accounts SET held = -1 WHERE id = {ALICE}",
    "ck_accounts_kind": insert("accounts", kind="'savings'", user_id="NULL"),
    "ck_accounts_owner": f"UPDATE accounts SET user_id = NULL WHERE id = {ALICE}",
    "ck_accounts_user_balance": f"UPDATE accounts SET balance = -1 WHERE id = {ALICE}",
    "ck_api_keys_digest": insert("api_keys", digest="'short'"),
    "ck_api_keys_name": insert("api_keys", name="''"),
    "ck_api_keys_previous": insert("api_keys", previous_until=TIME),
    "ck_api_keys_previous_digest": insert(
        "api_keys", previous_digest="'short'", previous_until=TIME
    ),
    "ck_api_keys_scopes": insert("api_keys", scopes="'{}'"),
    "ck_audit_events_action": insert("audit_events", action="'something'"),
    "ck_audit_events_actor_kind": insert("audit_events", actor_kind="'ghost'"),
    "ck_audit_events_details": insert("audit_events", details="'[]'"),
    "ck_audit_events_personal_digest": insert("audit_events", personal_digest="'short'"),
    "ck_audit_events_request_id": insert("audit_events", request_id="repeat('x', 129)"),
    "ck_audit_personal_salt": insert("audit_personal", salt="'short'"),
    "ck_discounts_code": insert("discounts", code="'a b'", code_key="'a b'"),
    "ck_discounts_code_key": insert("discounts", code_key="'Code'"),
    "ck_discounts_ends_at": insert("discounts", starts_at=TIME, ends_at=TIME),
    "ck_discounts_hundredths": insert("discounts", hundredths="0"),
    "ck_discounts_max_redemptions": insert("discounts", max_redemptions="0"),
    "ck_discounts_redeemed": insert("discounts", max_redemptions="1", redeemed="2"),
    "ck_discounts_version": insert("discounts", version="0"),
    "ck_entries_amount": insert("entries", amount="0"),
    "ck_entries_balance_after": insert("entries", balance_after="-1"),
    "ck_entries_seq": insert("entries", seq="0"),
    "ck_entries_seq_and_balance_after": insert("entries", balance_after="NULL"),
    "ck_exports_made_at": insert("exports", made_at=TIME),
    "ck_holds_amount": insert("holds", amount="0"),
    "ck_holds_captured": insert("holds", captured="6", status="'captured'", ended_at=TIME),
    "ck_holds_captured_once": insert("holds", captured="1"),
    "ck_holds_ended": insert("holds", ended_at=TIME),
    "ck_holds_expires_later": insert("holds", expires_at=TIME),
    "ck_holds_memo": insert("holds", memo="''"),
    "ck_holds_status": insert("holds", status="'lost'", ended_at=TIME),
    "ck_idempotency_keys_fingerprint": insert("idempotency_keys", fingerprint="'short'"),
    "ck_idempotency_keys_key": insert("idempotency_keys", key="'a b'"),
    "ck_idempotency_keys_status": insert("idempotency_keys", status="500"),
    "ck_ledger_state_check_seconds": CHECKED.format(TIME, "-1", "0"),
    "ck_ledger_state_checked": CHECKED.format(TIME, "1", "NULL"),
    "ck_ledger_state_differences": CHECKED.format(TIME, "1", "-1"),
    "ck_ledger_state_frozen": f"UPDATE ledger_state SET frozen_at = {TIME}",
    "ck_ledger_state_known_differences": "UPDATE ledger_state SET known_differences ="
    " ARRAY(SELECT number::text FROM generate_series(1, 1001) AS number)",
    "ck_ledger_state_id": "INSERT INTO ledger_state (id) VALUES (2)",
    "ck_login_sessions_device": insert("login_sessions", device="''"),
    "ck_login_sessions_ended": insert("login_sessions", ended_at=TIME),
    "ck_login_sessions_ended_reason": insert(
        "login_sessions", ended_at=TIME, ended_reason="'boredom'"
    ),
    "ck_login_sessions_generation": insert("login_sessions", generation="0"),
    "ck_login_sessions_salt": insert("login_sessions", salt="'short'"),
    "ck_mails_email": insert("mails", email="'a@'"),
    "ck_mails_email_key": insert("mails", email_key="NULL"),
    "ck_mails_facts": insert("mails", facts="'[]'"),
    "ck_mails_kind": insert("mails", kind="'spam'"),
    "ck_mails_settled": insert("mails", state="'sent'"),
    "ck_mails_state": insert("mails", state="'lost'", settled_at=TIME),
    "ck_mails_whom": insert("mails", email="NULL", email_key="NULL"),
    "ck_order_items_position": insert("order_items", position="0"),
    "ck_order_items_quantity": insert("order_items", quantity="0", total="0"),
    "ck_order_items_total": insert("order_items", total="6"),
    "ck_order_items_unit_price": insert("order_items", unit_price="-5", total="-5"),
    "ck_orders_cancel_reason": UNGUARDED
    + insert("orders", status="'cancelled'", cancelled_at=TIME, cancel_reason="'bored'"),
    "ck_orders_cancelled_at": UNGUARDED + insert("orders", status="'cancelled'", cancelled_at=TIME),
    "ck_orders_discount": insert("orders", discount="-1", total="6"),
    "ck_orders_discount_rounded": insert(
        "orders", discount="1", total="4", **DISCOUNT, discount_hundredths="1999"
    )
    # Half a credit is one.
    + insert("orders", discount="0", **DISCOUNT, discount_hundredths="1000"),
    "ck_orders_discounted": insert("orders", discount_id=THING),
    "ck_orders_expires_at": insert("orders", expires_at=TIME),
    "ck_orders_fulfilled_at": UNGUARDED + insert("orders", fulfilled_at=TIME),
    "ck_orders_paid_at": insert("orders", paid_at=TIME),
    "ck_orders_refunded": UNGUARDED + insert("orders", refunded="1"),
    "ck_orders_status": UNGUARDED + insert("orders", status="'lost'"),
    "ck_orders_subtotal": insert("orders", subtotal="9007199254740992", total="9007199254740992"),
    "ck_orders_total": insert("orders", total="6"),
    "ck_orders_version": UNGUARDED + insert("orders", version="0"),
    "ck_outbox_events_topic": insert("outbox_events", topic="'something'"),
    "ck_outbox_events_traceparent": insert("outbox_events", traceparent="'00-x-y-01'"),
    "ck_products_name": insert("products", name="''"),
    "ck_products_price": insert("products", price="-1"),
    "ck_products_sku": insert("products", sku="'a b'"),
    "ck_products_version": insert("products", version="0"),
    "ck_rate_limits_key": insert("rate_limits", key="'short'"),
    "ck_rate_limits_used": insert("rate_limits", used="-1"),
    "ck_signing_keys_activated_at": insert("signing_keys", state="'active'"),
    "ck_signing_keys_private_key": insert("signing_keys", private_key="'short'"),
    "ck_signing_keys_public_key": insert("signing_keys", public_key="'short'"),
    "ck_signing_keys_retired_at": insert("signing_keys", retired_at="NULL"),
    "ck_signing_keys_state": insert("signing_keys", state="'lost'"),
    "ck_transfers_accounts_differ": insert(
        "transfers", kind="'transfer'", from_account_id=ALICE, to_account_id=ALICE
    ),
    "ck_transfers_actor_kind": insert("transfers", actor_kind="'ghost'"),
    "ck_transfers_amount": insert("transfers", amount="0"),
    "ck_transfers_hold": insert("transfers", hold_id=THING),
    "ck_transfers_kind": insert("transfers", kind="'gift'"),
    "ck_transfers_memo": insert("transfers", memo="''"),
    "ck_transfers_order": insert("transfers", order_id=THING),
    "ck_transfers_request_id": insert("transfers", request_id="''"),
    "ck_transfers_reverses": insert("transfers", reverses_id=THING),
    "ck_transfers_sides": insert("transfers", kind="'transfer'"),
    "ck_users_deleting_since": insert("users", deleting_since=TIME),
    "ck_users_email": insert("users", email="'a@'"),
    "ck_users_email_key": insert("users", email_key="'a@'"),
    "ck_users_name": insert("users", name="''"),
    "ck_users_roles": insert("users", roles="ARRAY['king']"),
    "ck_users_status": insert("users", status="'bored'"),
    "ck_users_suspended_until": insert("users", suspended_until=TIME),
    "ck_users_version": insert("users", version="0"),
    "ck_webhook_deliveries_attempts": insert("webhook_deliveries", attempts="-1"),
    "ck_webhook_deliveries_last_error": insert("webhook_deliveries", last_error="'I am away'"),
    "ck_webhook_deliveries_last_status": insert("webhook_deliveries", last_status="99"),
    "ck_webhook_deliveries_pending": insert("webhook_deliveries", status="'dead'"),
    "ck_webhook_deliveries_status": insert(
        "webhook_deliveries", status="'lost'", next_try_at="NULL", ended_at=TIME
    ),
    "ck_webhook_events_type": insert("webhook_events", type="'something'"),
    "ck_webhooks_description": insert("webhooks", description="''"),
    "ck_webhooks_events": insert("webhooks", events="'{}'"),
    "ck_webhooks_master_key_version": insert("webhooks", master_key_version="0"),
    "ck_webhooks_previous": insert("webhooks", previous_until=TIME),
    "ck_webhooks_previous_secret": insert(
        "webhooks", previous_secret="'short'", previous_until=TIME
    ),
    "ck_webhooks_secret": insert("webhooks", secret="'short'"),
    "ck_webhooks_url": insert("webhooks", url="''"),
    "fk_account_deltas_account_id_accounts": insert("account_deltas", account_id=NOBODY),
    "fk_accounts_user_id_users": insert("accounts"),
    "fk_api_keys_user_id_users": insert("api_keys", user_id=NOBODY),
    "fk_entries_account_id_accounts": insert("transfers", id=OTHER)
    + insert("entries", transfer_id=OTHER, account_id=NOBODY),
    "fk_entries_transfer_id_transfers": insert("entries", transfer_id=NOBODY, seq="2"),
    "fk_exports_user_id_users": insert("exports", user_id=NOBODY),
    "fk_holds_account_id_accounts": insert("holds", account_id=NOBODY),
    "fk_login_sessions_user_id_users": insert("login_sessions", user_id=NOBODY),
    "fk_mails_user_id_users": insert("mails", user_id=NOBODY),
    "fk_order_items_order_id_orders": insert("order_items", order_id=NOBODY),
    "fk_order_items_product_id_products": insert("order_items", position="2", product_id=NOBODY),
    "fk_orders_discount_id_discounts": insert(
        "orders", discount_id=NOBODY, discount_code="'code'", discount_hundredths="1"
    ),
    "fk_orders_user_id_users": insert("orders", user_id=NOBODY),
    "fk_transfers_order_id_orders": insert(
        "transfers", kind="'payment'", **TO_REVENUE, order_id=NOBODY
    ),
    "fk_transfers_hold_id_holds": insert(
        "transfers", kind="'charge'", **TO_REVENUE, hold_id=NOBODY
    ),
    "fk_transfers_reverses_id_transfers": insert(
        "transfers", kind="'reversal'", reverses_id=NOBODY
    ),
    "fk_webhook_deliveries_event_id_webhook_events": insert("webhook_deliveries", event_id=NOBODY),
    "fk_webhook_deliveries_webhook_id_webhooks": insert("webhook_deliveries", webhook_id=NOBODY),
    "pk_accounts": insert("accounts", id=ALICE, user_id=ALICE),
    "pk_api_keys": insert("api_keys", id=THING),
    "pk_audit_events": insert("audit_events", id=THING),
    "pk_audit_personal": insert("audit_personal", event_id=THING),
    "pk_discounts": insert("discounts", id=THING, code="'other'", code_key="'other'"),
    "pk_entries": insert("entries", id=THING),
    "pk_exports": insert("exports", id=THING, content="'x'", made_at=TIME),
    "pk_holds": insert("holds", id=THING),
    "pk_idempotency_keys": insert("idempotency_keys", key="'k'"),
    "pk_ledger_state": "INSERT INTO ledger_state (id) VALUES (1)",
    "pk_login_sessions": insert("login_sessions", id=THING),
    "pk_mails": insert("mails", id=THING),
    "pk_order_items": insert("products", id=OTHER) + insert("order_items", product_id=OTHER),
    "pk_orders": insert("orders", id=THING),
    "pk_outbox_events": insert("outbox_events", id=THING),
    "pk_products": insert("products", id=THING),
    "pk_rate_limits": insert("rate_limits"),
    "pk_signing_keys": insert("signing_keys", id=THING),
    "pk_transfers": insert("transfers", id=THING),
    "pk_users": insert("users", id=ALICE),
    "pk_webhook_deliveries": insert("webhooks", id=OTHER)
    + insert("webhook_deliveries", id=THING, webhook_id=OTHER),
    "pk_webhook_events": insert("webhook_events", id=THING),
    "pk_webhooks": insert("webhooks", id=THING),
    "uq_accounts_house_kind": insert("accounts", id=NEW, user_id="NULL", kind="'revenue'"),
    # An account has its user's id, so this one shows only where the primary key is gone.
    "uq_accounts_user_id": "ALTER TABLE accounts DROP CONSTRAINT pk_accounts CASCADE;"
    + insert("accounts", id=ALICE, user_id=ALICE),
    "uq_discounts_code_key": insert("discounts", code="'CODE'"),
    "uq_entries_account_id_seq": insert("transfers", id=OTHER)
    + insert("entries", transfer_id=OTHER),
    "uq_entries_transfer_id_sign": insert("entries", account_id=BOB),
    "uq_exports_pending": insert("exports"),
    "uq_order_items_order_id_product_id": insert("order_items", position="2"),
    "uq_products_sku": insert("products", sku="'sku'"),
    "uq_signing_keys_active": insert("signing_keys", state="'active'", activated_at=TIME),
    "uq_transfers_hold_id": CAPTURE + CAPTURE,
    "uq_transfers_payment": PAYMENT + PAYMENT,
    "uq_transfers_reverses_id": REVERSAL + REVERSAL,
    "uq_users_email_key": insert("users", email_key="'alice'"),
    "uq_webhook_deliveries_event_id_webhook_id": insert("webhook_deliveries"),
}

AN_ADMIN = f"UPDATE users SET roles = '{{admin}}' WHERE id = {ALICE};"
FROZEN = f"UPDATE ledger_state SET frozen_at = {TIME}, frozen_reason = 'A test';"
END_HOLDS = f"UPDATE holds SET status = 'released', ended_at = {TIME}"
# Each statement is refused by the trigger, whose function names the table in its error.
REFUSALS: dict[str, list[str]] = {
    "account_deltas_refuse_change": ["UPDATE account_deltas SET amount = 1"],
    "account_deltas_refuse_truncate": ["TRUNCATE account_deltas"],
    "accounts_refuse_delete": [f"DELETE FROM accounts WHERE id = {BOB}"],
    "accounts_refuse_truncate": ["TRUNCATE accounts CASCADE"],
    "audit_events_refuse_change": [
        "UPDATE audit_events SET action = 'x.y.z'",
        "DELETE FROM audit_events",
    ],
    "audit_events_refuse_truncate": ["TRUNCATE audit_events"],
    "audit_personal_refuse_change": ["UPDATE audit_personal SET data = ''"],
    "audit_personal_refuse_truncate": ["TRUNCATE audit_personal"],
    "entries_refuse_change": ["UPDATE entries SET amount = 1", "DELETE FROM entries"],
    "entries_refuse_truncate": ["TRUNCATE entries"],
    "holds_guard": [
        "UPDATE holds SET amount = 1",
        "UPDATE holds SET memo = 'x'",
        f"UPDATE holds SET status = 'released', ended_at = {TIME};"
        " UPDATE holds SET status = 'held', ended_at = NULL",
    ],
    "holds_refuse_delete": ["DELETE FROM holds"],
    "holds_refuse_frozen": [FROZEN + insert("holds"), FROZEN + END_HOLDS],
    "holds_refuse_truncate": ["TRUNCATE holds CASCADE"],
    "ledger_state_refuse_delete": ["DELETE FROM ledger_state"],
    "ledger_state_refuse_truncate": ["TRUNCATE ledger_state"],
    "order_items_refuse_change": ["UPDATE order_items SET name = 'x'", "DELETE FROM order_items"],
    "order_items_refuse_truncate": ["TRUNCATE order_items"],
    "orders_guard": [
        "UPDATE orders SET status = 'refunded', refunded = total, version = version + 1,"
        f" paid_at = {TIME}",
        "UPDATE orders SET subtotal = 6, total = 6, version = version + 1",
        f"UPDATE orders SET status = 'paid', paid_at = {TIME}",
    ],
    "orders_guard_new": [
        insert("orders", status="'paid'", paid_at=TIME),
        insert("orders", refunded="1"),
        insert("orders", version="2"),
        insert("orders", fulfilled_at=TIME),
    ],
    "orders_refuse_delete": ["DELETE FROM orders"],
    "orders_refuse_truncate": ["TRUNCATE orders CASCADE"],
    "transfers_refuse_change": ["UPDATE transfers SET memo = 'x'", "DELETE FROM transfers"],
    "transfers_refuse_frozen": [FROZEN + insert("transfers")],
    "transfers_refuse_truncate": ["TRUNCATE transfers CASCADE"],
    "transfers_two_entries": [insert("transfers")],
    "users_keep_an_admin": [
        AN_ADMIN + "UPDATE users SET roles = '{}'",
        AN_ADMIN + "UPDATE users SET status = 'suspended', deleting_since = NULL",
        AN_ADMIN + "UPDATE users SET status = 'suspended', deleting_since = NULL,"
        f" suspended_until = {TIME}; UPDATE users SET suspended_until = NULL",
    ],
}

# What a trigger does, and a question whose answer is yes only because of it.
EFFECTS: dict[str, tuple[str, str]] = {
    "users_open_account": (
        insert("users", id=CAROL),
        f"SELECT EXISTS (SELECT FROM accounts WHERE user_id = {CAROL} AND kind = 'user')",
    ),
    "users_tell": (insert("users", id=CAROL), told("user.created", CAROL)),
    "transfers_tell": (insert("transfers", id=OTHER), told("credits.granted", OTHER)),
    "holds_tell": (insert("holds", id=OTHER), told("hold.placed", OTHER)),
    "orders_tell": (
        insert("orders", id=OTHER) + "SET CONSTRAINTS orders_tell IMMEDIATE",
        told("order.placed", OTHER),
    ),
}
