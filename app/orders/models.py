"""The tables of the catalogue and of orders. The reasons for each column stand in the migration."""

from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Row,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.platform.db import Base

# Some columns of a product or a discount, as attributes: what the API shows, and the version.
CatalogueRow: TypeAlias = Row[*tuple[Any, ...]]

products = Table(
    "products",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("sku", Text(collation="C"), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("name_grams", ARRAY(Text), nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("ix_products_active_sku", "active", "sku"),
    Index("ix_products_name_grams", "name_grams", postgresql_using="gin"),
)

discounts = Table(
    "discounts",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("code", Text(collation="C"), nullable=False),
    Column("code_key", Text(collation="C"), nullable=False, unique=True),
    Column("hundredths", Integer, nullable=False),
    Column("max_redemptions", BigInteger),
    Column("redeemed", BigInteger, nullable=False),
    Column("starts_at", DateTime(timezone=True)),
    Column("ends_at", DateTime(timezone=True)),
    Column("active", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
)

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
