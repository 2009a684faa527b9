"""The table of users. The reasons for each column stand in the migration."""

from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Row,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.platform.db import Base

# Some columns of a user, as attributes; which ones, the function says that returns it.
UserRow: TypeAlias = Row[*tuple[Any, ...]]

users = Table(
    "users",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False, unique=True),
    Column("email_verified", Boolean, nullable=False),
    Column("name", Text, nullable=False),
    Column("name_grams", ARRAY(Text), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("status", Text, nullable=False),
    Column("suspended_until", DateTime(timezone=True)),
    Column("deleting_since", DateTime(timezone=True)),
    Column("password_changed_at", DateTime(timezone=True)),
    Column("reset_required", Boolean, nullable=False, server_default=text("false")),
    Column("version", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Index("ix_users_created_at_id", "created_at", "id"),
    Index("ix_users_name_grams", "name_grams", postgresql_using="gin"),
    Index("ix_users_roles", "roles", postgresql_using="gin"),
    Index(
        "ix_users_status_created_at_id",
        "status",
        "created_at",
        "id",
        postgresql_where=text("status <> 'active'"),
    ),
    Index(
        "ix_users_deleting_since",
        "deleting_since",
        "id",
        postgresql_where=text("deleting_since IS NOT NULL"),
    ),
)
