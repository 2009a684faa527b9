"""The tables of login sessions and API keys. The migrations give the reasons for each column."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.platform.db import Base

login_sessions = Table(
    "login_sessions",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("confirmed_at", DateTime(timezone=True)),
    Column("salt", LargeBinary, nullable=False),
    Column("device", Text),
    Column("address", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, index=True),
    Column("last_used_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_reason", Text),
    Column("device_id", Uuid),
    Index("ix_login_sessions_user_id", "user_id", "device", "address"),
    Index(
        "ix_login_sessions_live",
        "user_id",
        "created_at",
        "id",
        postgresql_where=text("ended_at IS NULL"),
    ),
)

api_keys = Table(
    "api_keys",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("previous_digest", LargeBinary),
    Column("previous_until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Index(
        "ix_api_keys_live",
        "user_id",
        "created_at",
        "id",
        postgresql_where=text("revoked_at IS NULL"),
    ),
)
