"""The table of signing keys. The reasons for each column stand in the migration."""

from sqlalchemy import Column, DateTime, Index, Integer, LargeBinary, Table, Text, Uuid, text

from app.platform.db import Base

signing_keys = Table(
    "signing_keys",
    Base.metadata,
    Column("id", Uuid, primary_key=True),
    Column("state", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("private_key", LargeBinary, nullable=False),
    Column("master_key_version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("activated_at", DateTime(timezone=True)),
    Column("retired_at", DateTime(timezone=True)),
    Index(
        "uq_signing_keys_active", "state", unique=True, postgresql_where=text("state = 'active'")
    ),
)
