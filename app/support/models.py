"""The table of exports. The reasons for each column stand in the migration."""

from sqlalchemy import Column, DateTime, ForeignKey, Index, LargeBinary, Table, Uuid, text

from app.platform.db import Base

exports = Table(
    "exports",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id"), nullable=False, index=True),
    Column("content", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("made_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True), nullable=False, index=True),
    Index("uq_exports_pending", "user_id", unique=True, postgresql_where=text("made_at IS NULL")),
)
