"""The role that the service connects as owns nothing and may change nothing of books and audit."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Row, make_url, text
from sqlalchemy.exc import ProgrammingError

from app.platform import db
from app.platform.settings import Settings
from tests.tracing import unfollowed

pytestmark = unfollowed

Sql = Callable[..., list[Row[Any]]]

# All that the application's role may do, by table; a privilege on single columns in brackets.
PRIVILEGES = {
    "account_deltas": "SELECT",
    "accounts": "SELECT",
    "alembic_version": "SELECT",
    "api_keys": "DELETE INSERT SELECT",
    "audit_events": "INSERT SELECT",
    "audit_personal": "DELETE INSERT SELECT",
    "discounts": "INSERT SELECT",
    "entries": "SELECT",
    "exports": "DELETE INSERT SELECT",
    "holds": "SELECT",
    "idempotency_keys": "DELETE INSERT SELECT UPDATE",
    "ledger_state": "SELECT",
    "login_sessions": "DELETE INSERT SELECT",
    "mails": "DELETE INSERT SELECT UPDATE",
    "order_items": "INSERT SELECT",
    "orders": "INSERT SELECT",
    "outbox_events": "DELETE INSERT SELECT",
    "procrastinate_events": "DELETE INSERT SELECT UPDATE",
    "procrastinate_jobs": "DELETE INSERT SELECT UPDATE",
    "procrastinate_periodic_defers": "DELETE INSERT SELECT UPDATE",
    "procrastinate_workers": "DELETE INSERT SELECT UPDATE",
    "products": "INSERT SELECT",
    "rate_limits": "DELETE INSERT SELECT UPDATE",
    "signing_keys": "DELETE INSERT SELECT",
    "transfers": "SELECT",
    "users": "INSERT SELECT",
    "webhook_deliveries": "INSERT SELECT",
    "webhook_events": "DELETE INSERT SELECT",
    "webhooks": "DELETE INSERT SELECT",
}
COLUMNS = {
    "api_keys": "digest last_used_at previous_digest previous_until revoked_at",
    "discounts": "active code code_key ends_at hundredths max_redemptions redeemed starts_at"
    " version",
    "exports": "content expires_at made_at",
    "login_sessions": "confirmed_at ended_at ended_reason expires_at generation last_used_at",
    "orders": "cancel_reason cancelled_at fulfilled_at paid_at refunded status version",
    # Whoever locks a row has to have the right to change it.
    "outbox_events": "id",
    "products": "active name name_grams price sku version",
    "signing_keys": "activated_at master_key_version private_key retired_at state",
    "users": "deleting_since email email_key email_verified name name_grams password_changed_at"
    " password_hash reset_required roles status suspended_until updated_at version",
    "webhook_deliveries": "attempts ended_at last_error last_status last_try_at next_try_at status",
    "webhooks": "active description events master_key_version previous_secret previous_until"
    " secret updated_at url",
}
FUNCTIONS = [
    "await_postings_v1",
    "capture_hold_v1",
    "fold_deltas_v1",
    "fold_deltas_v2",
    "lock_account_v1",
    "lock_open_holds_v1",
    "note_ledger_check_v1",
    "note_ledger_check_v2",
    "place_hold_v1",
    "post_batch_v1",
    "post_transfer_v1",
    "post_transfer_v2",
    "post_transfer_v3",
    "release_hold_v1",
    "set_ledger_frozen_v1",
]

BOOKS_AND_AUDIT = (
    "accounts",
    "account_deltas",
    "transfers",
    "entries",
    "holds",
    "ledger_state",
    "audit_events",
    "audit_personal",
)
REFUSED = [
    statement.format(table=table)
    for table in BOOKS_AND_AUDIT
    for statement in (
        "TRUNCATE {table}",
        "TRUNCATE {table} CASCADE",
        "DROP TABLE {table}",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "ALTER TABLE {table} ADD COLUMN more text",
        "CREATE INDEX ON {table} ((1))",
        "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION refuse_change_v1()",
    )
] + [
    # The personal part of an event goes by erasure and retention.
    *(f"DELETE FROM {table}" for table in BOOKS_AND_AUDIT if table != "audit_personal"),
    "UPDATE accounts SET balance = 1",
    "UPDATE account_deltas SET amount = 1",
    "UPDATE transfers SET amount = 1",
    "UPDATE entries SET amount = 1",
    "UPDATE holds SET status = 'released'",
    "UPDATE ledger_state SET frozen_at = NULL, frozen_reason = NULL",
    "UPDATE audit_events SET action = 'a.b.c'",
    "UPDATE audit_personal SET data = ''",
    "INSERT INTO account_deltas SELECT id, 1 FROM accounts",
    "INSERT INTO accounts SELECT * FROM accounts",
    "INSERT INTO transfers SELECT * FROM transfers",
    "INSERT INTO entries SELECT * FROM entries",
    "INSERT INTO holds SELECT * FROM holds",
    "CREATE TABLE mine (id bigint)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION refuse_change_v1() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NEW; END'",
    "ALTER FUNCTION refuse_change_v1() RENAME TO mine",
    "CREATE SCHEMA mine",
    "SET session_replication_role = replica",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_the_service_may_not(settings: Settings, statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        db.one_connection(settings) as connection,
    ):
        connection.exec_driver_sql(statement)


def test_the_service_may_do_exactly_what_is_listed_here(sql: Sql, settings: Settings) -> None:
    role = make_url(settings.database_url).username
    tables = sql(
        """
        SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)
        FROM information_schema.table_privileges
        WHERE table_schema = 'public' AND grantee IN (:role, 'PUBLIC') GROUP BY table_name
        """,
        role=role,
    )
    assert {row[0]: row[1] for row in tables} == PRIVILEGES
    columns = sql(
        """
        SELECT table_name, string_agg(column_name, ' ' ORDER BY column_name)
        FROM information_schema.column_privileges c
        WHERE table_schema = 'public' AND grantee IN (:role, 'PUBLIC')
            AND privilege_type = 'UPDATE'
            AND NOT EXISTS (
                SELECT FROM information_schema.table_privileges whole
                WHERE whole.table_name = c.table_name AND whole.grantee = c.grantee
                    AND whole.privilege_type = 'UPDATE'
            )
        GROUP BY table_name
        """,
        role=role,
    )
    assert {row[0]: row[1] for row in columns} == COLUMNS


def test_functions_with_the_owners_rights_are_for_the_service_alone(
    sql: Sql, settings: Settings
) -> None:
    functions = sql(
        """
        SELECT proname, proconfig::text LIKE '%search_path=pg_catalog%' AS fixed,
            has_function_privilege(:role, oid, 'EXECUTE') AS callable,
            EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0) OR proacl IS NULL AS public
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
        """,
        role=make_url(settings.database_url).username,
    )
    assert all(function.fixed and not function.public for function in functions)
    assert sorted(function.proname for function in functions if function.callable) == FUNCTIONS


def test_the_service_owns_nothing_and_is_nobody_special(settings: Settings) -> None:
    with db.one_connection(settings) as connection:
        role = connection.execute(
            text(
                """
                SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication,
                    (SELECT count(*) FROM pg_class WHERE relowner = r.oid)
                    + (SELECT count(*) FROM pg_proc WHERE proowner = r.oid)
                    + (SELECT count(*) FROM pg_auth_members WHERE member = r.oid)
                FROM pg_roles r WHERE rolname = current_user
                """
            )
        ).one()
    assert tuple(role) == (False, 0)
