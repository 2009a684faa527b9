"""The tables of webhooks, their events and deliveries. The migration has the reasons."""

from typing import Any, TypeAlias

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Row,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from app.platform.db import Base

# Some columns of a webhook or a delivery, as attributes; which ones, the function says.
WebhookRow: TypeAlias = Row[*tuple[Any, ...]]

webhooks = Table(
    "webhooks",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    Column("description", Text),
    Column("active", Boolean, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("master_key_version", Integer, nullable=False),
    Column("previous_secret", LargeBinary),
    Column("previous_until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)

webhook_events = Table(
    "webhook_events",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("data", JSON, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, index=True),
    Index(
        "ix_webhook_events_user",
        "subject_id",
        postgresql_where=text("starts_with(type, 'user.')"),
    ),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("event_id", Uuid, ForeignKey("webhook_events.id", ondelete="CASCADE"), nullable=False),
    Column("webhook_id", Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_try_at", DateTime(timezone=True)),
    Column("last_try_at", DateTime(timezone=True)),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    UniqueConstraint("event_id", "webhook_id"),
    Index("ix_webhook_deliveries_webhook_id", "webhook_id", "created_at", "id"),
    Index("ix_webhook_deliveries_status", "webhook_id", "status", "created_at", "id"),
    Index(
        "ix_webhook_deliveries_due",
        "webhook_id",
        "next_try_at",
        postgresql_where=text("status = 'pending'"),
    ),
)
