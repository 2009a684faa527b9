"""`flask doctor`: what is wrong with an installation, and what to do about it."""

import click
from flask.cli import with_appcontext

from app.cli.opening import settings
from app.platform.errors import Unavailable
from app.upkeep import doctor as doctors
from app.upkeep.findings import Weight


@click.command("doctor")
@click.option(
    "--machines",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How many machines run the service with these settings, for the sum of connections.",
)
@with_appcontext
def doctor(machines: int) -> None:
    """Examine settings, database, migrations, keys and mail; exit 1 when there is a problem."""
    number = 0
    try:
        for part, findings in doctors.examine(settings(), machines=machines):
            if not findings:
                click.echo(f"{part}: fine")
            for finding in findings:
                click.echo(f"{part}: {finding.weight}: {finding.sentence}")
                number += finding.weight is Weight.PROBLEM
    except Unavailable as fault:
        raise click.ClickException(fault.text) from None
    if number:
        raise click.exceptions.Exit(1)
