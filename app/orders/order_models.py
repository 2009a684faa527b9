"""The tables of orders. The reasons for each column stand in the migration."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from app.platform.db import Base

orders = Table(
    "orders",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("subtotal", BigInteger, nullable=False),
    Column("discount", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    Column("discount_id", Uuid, ForeignKey("discounts.id")),
    Column("discount_code", Text),
    Column("discount_hundredths", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("paid_at", DateTime(timezone=True)),
    Column("fulfilled_at", DateTime(timezone=True)),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("cancel_reason", Text),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Index("ix_orders_user_id", "user_id", "created_at", "id"),
    Index("ix_orders_status", "status", "created_at", "id"),
    Index("ix_orders_created_at", "created_at", "id"),
    Index("ix_orders_discount_id", "discount_id", postgresql_where=text("discount_id IS NOT NULL")),
    Index("ix_orders_placed", "expires_at", "id", postgresql_where=text("status = 'placed'")),
)

order_items = Table(
    "order_items",
    Base.metadata,
    Column("order_id", Uuid, ForeignKey("orders.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("product_id", Uuid, ForeignKey("products.id"), nullable=False, index=True),
    Column("sku", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("unit_price", BigInteger, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("total", BigInteger, nullable=False),
    UniqueConstraint("order_id", "product_id"),
)
