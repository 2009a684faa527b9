"""The tables of the ledger.

Plain tables, because no row of the books is ever changed through an object: the application reads
them, and `post_transfer_v2` writes them. Checks, triggers and the reasons for each column stand in
the migration.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
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
    Column("order_id", Uuid),
    Column("reverses_id", Uuid, ForeignKey("transfers.id"), unique=True),
    Column("actor_id", Uuid),
    Column("actor_kind", Text, nullable=False),
    Column("request_id", Text),
    Column("memo", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
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
