"""Dumps the database of the tests as text, and looks for what may not stand in it."""

import gzip
from collections.abc import Iterable
from contextlib import closing
from io import BytesIO

import psycopg2
from sqlalchemy import make_url

from app.platform.settings import Settings

TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace"


def dump(settings: Settings) -> bytes:
    """Return every table of a database, those of jobs too, and what archives hold unpacked."""
    url = make_url(settings.database_migration_url).set(drivername="postgresql")
    out = BytesIO()
    with (
        closing(psycopg2.connect(url.render_as_string(hide_password=False))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(TABLES, ("public",))
        tables = [name for (name,) in cursor.fetchall()]
        assert {"users", "audit_personal", "mails", "procrastinate_jobs"} <= set(tables)
        for table in tables:
            cursor.copy_expert(f'COPY (SELECT * FROM "{table}") TO STDOUT', out)
        cursor.execute("SELECT content FROM exports WHERE content IS NOT NULL")
        for (content,) in cursor.fetchall():
            out.write(gzip.decompress(bytes(content)))
    return out.getvalue()


def found_in(text: bytes, values: Iterable[str]) -> set[str]:
    """Return those of the values that stand in a dump: as text, or as bytes in hexadecimal."""
    return {
        value for value in values if value.encode() in text or value.encode().hex().encode() in text
    }
