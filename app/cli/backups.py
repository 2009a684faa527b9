"""`flask backup` and `flask restore-drill`: a copy of the database, and whether it is good."""

from pathlib import Path

import click
from flask.cli import with_appcontext
from marshmallow import ValidationError

from app.cli.opening import settings
from app.platform.settings.addresses import database_url
from app.upkeep import backup as backups
from app.upkeep import drill
from app.upkeep.backup import BackupFailed
from app.upkeep.drill import DrillFailed


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@with_appcontext
def backup(file: Path) -> None:
    """Write the database as it is now into a new FILE, while everything goes on."""
    try:
        made = backups.make(settings(), file)
    except BackupFailed as failure:
        raise click.ClickException(str(failure)) from None
    click.echo(f"{file}: {made.size} bytes, revision {made.revision}, in {made.seconds:.1f} s.")


@click.command("restore-drill")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--server",
    help="URL of a server for it, without a password: PGPASSWORD or ~/.pgpass has that."
    " Without one, the embedded PostgreSQL is started.",
)
@with_appcontext
def restore_drill(file: Path, server: str | None) -> None:
    """Restore a backup into a database of its own, and check it; exit 1 when it isn't good."""
    found = False
    try:
        url = None if server is None else database_url(server).replace("+psycopg2", "", 1)
    except ValidationError as refusal:
        raise click.BadParameter(f"--server {refusal.args[0]}.") from None
    try:
        for problem in drill.run(settings(), file, server=url, say=_say):
            click.echo(problem)
            found = True
    except DrillFailed as failure:
        raise click.ClickException(str(failure)) from None
    if found:
        raise click.exceptions.Exit(1)
    click.echo("The backup is good: it was restored, and its books are right.")


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)
