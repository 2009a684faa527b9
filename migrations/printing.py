"""Prints the SQL of each migration, for programs and tests that read it.

`python -m migrations.printing FOLDER` makes a file of each; `make lint` has squawk read them.
"""

import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory

from app.platform import migrations
from app.platform.settings import load_settings

# Nobody connects; but two roles, so that grants are printed, too.
NOWHERE = {
    "APP_ENV": "test",
    "APP_DATABASE_URL": "postgresql://bursar_app@localhost/bursar",
    "APP_DATABASE_MIGRATION_URL": "postgresql://bursar_owner@localhost/bursar",
}


def printed() -> Iterator[tuple[str, str]]:
    """Give each revision, the oldest first, and the SQL of its migration."""
    with tempfile.TemporaryDirectory() as folder:
        config = migrations.configuration(load_settings(NOWHERE | {"APP_DATA_DIR": folder}))
        for each in [*ScriptDirectory.from_config(config).walk_revisions()][::-1]:
            config.output_buffer = StringIO()
            before = f"{each.down_revision}:" if each.down_revision else ""
            command.upgrade(config, f"{before}{each.revision}", sql=True)
            yield each.revision, config.output_buffer.getvalue()


if __name__ == "__main__":
    for revision, text in printed():
        Path(sys.argv[1], f"{revision}.sql").write_text(text)
