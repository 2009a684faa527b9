"""A valid row of every table, in plain SQL, for tests of what the database itself refuses."""

ALICE = "'00000000-0000-7000-8000-00000000000a'"
BOB = "'00000000-0000-7000-8000-00000000000b'"
CAROL = "'00000000-0000-7000-8000-00000000000c'"
THING = "'00000000-0000-7000-8000-0000000000f1'"
OTHER = "'00000000-0000-7000-8000-0000000000f2'"
NOBODY = "'00000000-0000-7000-8000-0000000000ff'"
ISSUANCE = "'00000000-0000-7000-8000-000000000001'"
REVENUE = "'00000000-0000-7000-8000-000000000002'"
NEW = "gen_random_uuid()"
TIME = "'2026-01-01 00:00:00+00'"
LATER = "'2026-01-02 00:00:00+00'"

# A valid row of each table, in SQL; the cases change what they are about.
ROWS: dict[str, dict[str, str]] = {
    "users": {
        "id": NEW,
        "email": "'a@example.org'",
        "email_key": "gen_random_uuid()::text",
        "email_verified": "false",
        "name": "'A'",
        "name_grams": "'{}'",
        "password_hash": "'x'",
        "roles": "'{}'",
        "status": "'active'",
        "version": "1",
        "created_at": TIME,
        "updated_at": TIME,
    },
    "signing_keys": {
        "id": NEW,
        "state": "'retiring'",
        "public_key": "decode(repeat('00', 32), 'hex')",
        "private_key": "decode(repeat('00', 60), 'hex')",
        "master_key_version": "1",
        "created_at": TIME,
        "retired_at": TIME,
    },
    "login_sessions": {
        "id": NEW,
        "user_id": ALICE,
        "generation": "1",
        "salt": "decode(repeat('00', 16), 'hex')",
        "created_at": TIME,
        "last_used_at": TIME,
        "expires_at": TIME,
    },
    "api_keys": {
        "id": NEW,
        "user_id": ALICE,
        "name": "'A'",
        "scopes": "'{self:read}'",
        "digest": "decode(repeat('00', 32), 'hex')",
        "created_at": TIME,
    },
    "audit_events": {
        "id": NEW,
        "action": "'a.b.c'",
        "actor_kind": "'system'",
        "subject_type": "'user'",
        "details": "'{}'",
        "created_at": TIME,
    },
    "audit_personal": {
        "event_id": NEW,
        "salt": "decode(repeat('00', 16), 'hex')",
        "data": "'{}'",
    },
    "idempotency_keys": {
        "user_id": ALICE,
        "key": "gen_random_uuid()::text",
        "fingerprint": "decode(repeat('00', 32), 'hex')",
        "status": "200",
        "content_type": "'application/json'",
        "body": "'{}'",
        "created_at": TIME,
    },
    "exports": {
        "id": NEW,
        "user_id": ALICE,
        "created_at": TIME,
        "expires_at": TIME,
    },
    "rate_limits": {
        "key": "decode(repeat('00', 32), 'hex')",
        "used": "1",
        "ends_at": TIME,
    },
    "outbox_events": {"id": NEW, "topic": "'a.b'", "subject_id": NEW, "created_at": TIME},
    "mails": {
        "id": NEW,
        "kind": "'reset'",
        "email": "'a@example.org'",
        "email_key": "'a@example.org'",
        "facts": "'{}'",
        "state": "'waiting'",
        "created_at": TIME,
    },
    "products": {
        "id": NEW,
        "sku": "gen_random_uuid()::text",
        "name": "'A'",
        "name_grams": "'{}'",
        "price": "10",
        "active": "true",
        "version": "1",
    },
    "orders": {
        "id": NEW,
        "user_id": ALICE,
        "status": "'placed'",
        "subtotal": "5",
        "discount": "0",
        "total": "5",
        "created_at": TIME,
        "expires_at": LATER,
    },
    "order_items": {
        "order_id": THING,
        "position": "1",
        "product_id": THING,
        "sku": "'sku'",
        "name": "'Name'",
        "unit_price": "5",
        "quantity": "1",
        "total": "5",
    },
    "discounts": {
        "id": NEW,
        "code": "'Code'",
        "code_key": "'code'",
        "hundredths": "1000",
        "redeemed": "0",
        "active": "true",
        "version": "1",
    },
    "accounts": {"id": CAROL, "user_id": CAROL, "kind": "'user'"},
    "account_deltas": {"account_id": ISSUANCE, "amount": "-5"},
    "transfers": {
        "id": NEW,
        "kind": "'grant'",
        "amount": "5",
        "from_account_id": ISSUANCE,
        "to_account_id": ALICE,
        "actor_kind": "'system'",
        "created_at": TIME,
    },
    "entries": {
        "id": NEW,
        "transfer_id": THING,
        "account_id": ALICE,
        "seq": "1",
        "amount": "5",
        "balance_after": "5",
        "created_at": TIME,
    },
    "holds": {
        "id": NEW,
        "account_id": ALICE,
        "amount": "5",
        "placed_by": ALICE,
        "expires_at": LATER,
        "created_at": TIME,
    },
    "webhooks": {
        "id": NEW,
        "url": "'https://app.example.com/'",
        "events": "'{*}'",
        "active": "true",
        "secret": "decode(repeat('00', 60), 'hex')",
        "master_key_version": "1",
        "created_at": TIME,
        "updated_at": TIME,
    },
    "webhook_events": {
        "id": NEW,
        "type": "'order.paid'",
        "subject_id": NOBODY,
        "data": "'{}'",
        "created_at": TIME,
    },
    "webhook_deliveries": {
        "id": NEW,
        "event_id": THING,
        "webhook_id": THING,
        "status": "'pending'",
        "next_try_at": TIME,
        "created_at": TIME,
    },
}


def insert(table: str, **changes: str) -> str:
    """Return an INSERT of the table's valid row with some columns changed."""
    row = ROWS[table] | changes
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())});"


# What is there before each case: two users, a transfer with its entries, one row of the rest.
SEED = "".join(
    [
        "DELETE FROM signing_keys;",
        insert("users", id=ALICE, email_key="'alice'"),
        insert("users", id=BOB, email_key="'bob'"),
        insert("signing_keys", id=THING, state="'active'", activated_at=TIME),
        insert("login_sessions", id=THING),
        insert("api_keys", id=THING),
        insert("audit_events", id=THING),
        insert("audit_personal", event_id=THING),
        insert("idempotency_keys", key="'k'"),
        insert("exports", id=THING),
        insert("rate_limits"),
        insert("outbox_events", id=THING),
        insert("mails", id=THING),
        insert("products", id=THING, sku="'sku'"),
        insert("discounts", id=THING),
        insert("orders", id=THING),
        insert("order_items"),
        insert("transfers", id=THING),
        insert("entries", id=THING),
        insert("entries", account_id=ISSUANCE, amount="-5", seq="NULL", balance_after="NULL"),
        insert("account_deltas"),
        insert("holds", id=THING),
        insert("webhooks", id=THING),
        insert("webhook_events", id=THING),
        insert("webhook_deliveries", id=THING),
        # The deferred checks of these rows are done; those of the case are still to come.
        "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;",
    ]
)
