"""The table of login sessions. The reasons for each column stand in the migration."""

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
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("last_used_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_reason", Text),
    Column("device_id", Uuid),
    Index(
        "ix_login_sessions_live",
        "user_id",
        "created_at",
        "id",
        postgresql_where=text("ended_at IS NULL"),
    ),
)
