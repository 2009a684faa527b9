"""The tables of the ledger.

Plain tables, because no row of the books is ever changed through an object: the application reads
them, and functions in the database write them. Checks, triggers and the reasons for each column
stand in the migrations.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from app.platform.db import Base

accounts = Table(
    "accounts",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id"), unique=True),
    Column("kind", Text, nullable=False),
    Column("balance", BigInteger, nullable=False, server_default=text("0")),
    Column("held", BigInteger, nullable=False, server_default=text("0")),
    Column("entry_count", BigInteger, nullable=False, server_default=text("0")),
    Index("uq_accounts_house_kind", "kind", unique=True, postgresql_where=text("kind <> 'user'")),
)

account_deltas = Table(
    "account_deltas",
    Base.metadata,
    Column("account_id", Uuid, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
)

transfers = Table(
    "transfers",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("from_account_id", Uuid, nullable=False),
    Column("to_account_id", Uuid, nullable=False),
    Column("order_id", Uuid, ForeignKey("orders.id")),
    Column("reverses_id", Uuid, ForeignKey("transfers.id"), unique=True),
    Column("actor_id", Uuid),
    Column("actor_kind", Text, nullable=False),
    Column("request_id", Text),
    Column("memo", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("hold_id", Uuid, ForeignKey("holds.id")),
    Index("ix_transfers_order_id", "order_id", postgresql_where=text("order_id IS NOT NULL")),
    Index(
        "uq_transfers_payment",
        "order_id",
        unique=True,
        postgresql_where=text("kind = 'payment'"),
    ),
    Index(
        "uq_transfers_hold_id",
        "hold_id",
        unique=True,
        postgresql_where=text("hold_id IS NOT NULL"),
    ),
)

entries = Table(
    "entries",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("transfer_id", Uuid, ForeignKey("transfers.id"), nullable=False),
    Column("account_id", Uuid, ForeignKey("accounts.id"), nullable=False),
    Column("seq", BigInteger),
    Column("amount", BigInteger, nullable=False),
    Column("balance_after", BigInteger),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("account_id", "seq"),
    Index("uq_entries_transfer_id_sign", "transfer_id", text("(amount > 0)"), unique=True),
)

holds = Table(
    "holds",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, ForeignKey("accounts.id"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False, server_default=text("0")),
    Column("status", Text, nullable=False, server_default=text("'held'")),
    Column("placed_by", Uuid, nullable=False),
    Column("memo", Text),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Index("ix_holds_account_id", "account_id", "created_at", "id"),
    Index("ix_holds_status", "status", "created_at", "id"),
    Index("ix_holds_created_at", "created_at", "id"),
    Index("ix_holds_open", "expires_at", postgresql_where=text("status = 'held'")),
)

ledger_state = Table(
    "ledger_state",
    Base.metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("frozen_at", DateTime(timezone=True)),
    Column("frozen_reason", Text),
    Column("checked_at", DateTime(timezone=True)),
    Column("check_seconds", Double),
    Column("differences", BigInteger),
    Column("known_differences", ARRAY(Text), nullable=False, server_default=text("'{}'")),
)
