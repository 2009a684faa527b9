"""The tables of the catalogue. The reasons for each column stand in the migration."""

from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    Row,
    Table,
    Text,
    Uuid,
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
