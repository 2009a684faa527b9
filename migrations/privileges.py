"""Grants the application's role what it needs of the tables and functions of a migration."""

from alembic import op


def grant(privileges: str, tables: str) -> None:
    """Grant `privileges` on `tables` (both as SQL lists) to the application's role.

    Nothing happens when that role is the owner, who has every right already.
    """
    role = _application_role()
    if role is not None:
        op.execute(f"GRANT {privileges} ON {tables} TO {role}")


def grant_execute(function: str) -> None:
    """Let the application's role, and nobody else, call a function given with its argument types.

    PostgreSQL lets everyone call a new function; with SECURITY DEFINER that would be anyone who
    can connect, with the owner's rights.
    """
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    role = _application_role()
    if role is not None:
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {role}")


def _application_role() -> str | None:
    context = op.get_context()
    if context.config is None:
        raise RuntimeError("migrations run through env.py, which knows the application's role")
    role: str | None = context.config.attributes["application_role"]
    return None if role is None else context.dialect.identifier_preparer.quote(role)
