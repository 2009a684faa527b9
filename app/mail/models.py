"""The table of mails. The reasons for each column stand in the migration."""

from typing import Any, TypeAlias

from sqlalchemy import Column, DateTime, ForeignKey, Index, Row, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from app.platform.db import Base

# Columns of a mail, as attributes.
MailRow: TypeAlias = Row[*tuple[Any, ...]]

mails = Table(
    "mails",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("user_id", Uuid, ForeignKey("users.id"), index=True),
    Column("email", Text),
    Column("email_key", Text, index=True),
    Column("facts", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, index=True),
    Column("settled_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("used_at", DateTime(timezone=True)),
    Index("ix_mails_dead", "created_at", "id", postgresql_where=text("state = 'dead'")),
)
