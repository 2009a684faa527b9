"""Says in the database which code its tables still serve."""

from alembic import op


def contract(*, serves_from: str) -> None:
    """Let only code run from now on that brings the revision `serves_from` or a newer one.

    For a migration that takes away what older code needs. It stands with the table of the revision,
    where every process can read it: older ones have no other way to learn of it, and `/ready` says
    `ahead` on them.
    """
    op.execute(f"COMMENT ON TABLE alembic_version IS '{serves_from}'")
