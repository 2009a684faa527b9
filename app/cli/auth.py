"""`flask auth …`: signing in."""

import click
from flask.cli import AppGroup

from app.cli.opening import settings
from app.users import calibration

auth = AppGroup("auth", help="Signing in.")


@auth.command("calibrate")
@click.option(
    "--milliseconds",
    type=click.IntRange(1, 5000),
    default=75,
    show_default=True,
    help="How long a hash may take; 50 to 100 is what people don't notice.",
)
def calibrate(milliseconds: int) -> None:
    """Propose settings for password hashes on this machine, while it has nothing else to do."""
    cost = calibration.propose(milliseconds=milliseconds, measure=calibration.measure)
    alone, workers = calibration.measure(cost), settings().server_workers
    together = calibration.hashes_a_second(cost, workers=workers)
    click.echo(f"# A hash takes {alone:.0f} ms, {milliseconds} ms were wanted.")
    if cost == calibration.LEAST:
        click.echo("# This is the least that is safe.")
    click.echo(
        f"# {workers} workers make {together:.0f} hashes a second together,"
        f" and take {workers * cost.memory_kib // 1024} MiB for them."
    )
    click.echo(f"APP_AUTH_ARGON2_MEMORY_KIB={cost.memory_kib}")
    click.echo(f"APP_AUTH_ARGON2_TIME_COST={cost.time_cost}")
    click.echo(f"APP_AUTH_ARGON2_PARALLELISM={cost.parallelism}")
