"""The tables of the audit trail: plain ones, because no row is ever changed through an object.

Checks, triggers and the reasons for each column stand in the migration.
"""

from sqlalchemy import Column, DateTime, Index, LargeBinary, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from app.platform.db import Base

audit_events = Table(
    "audit_events",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("action", Text, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Uuid),
    Column("subject_type", Text, nullable=False),
    Column("subject_id", Uuid),
    Column("request_id", Text),
    Column("details", JSONB, nullable=False),
    Column("personal_digest", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_audit_events_created_at_id", "created_at", "id"),
    Index("ix_audit_events_actor_id", "actor_id", "created_at", "id"),
    Index("ix_audit_events_subject_id", "subject_id", "created_at", "id"),
    Index("ix_audit_events_action", "action", "created_at", "id"),
    Index("ix_audit_events_request_id", "request_id"),
)

audit_personal = Table(
    "audit_personal",
    Base.metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("subject_id", Uuid, index=True),
    Column("salt", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), index=True),
    Index("ix_audit_personal_undated", "event_id", postgresql_where=text("created_at IS NULL")),
)
