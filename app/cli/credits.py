"""`flask credits …`: the books."""

from time import monotonic

import click
from flask.cli import AppGroup

from app.cli.opening import database, time_text
from app.credits import keeping, verification
from app.platform.actor import Actor

credits_ = AppGroup("credits", help="The ledger.")


@credits_.command("verify")
def verify() -> None:
    """Check the books; exit 1 with the differences when there are any."""
    found, begun = False, monotonic()

    def tell(done: int, number: int) -> None:
        click.echo(f"{done} of {number} checks, {monotonic() - begun:.0f} s", err=True)

    with database():
        for difference in verification.verify(tell=tell):
            click.echo(difference)
            found = True
    if found:
        raise click.exceptions.Exit(1)
    click.echo("The books are right: every check passed.")


@credits_.command("freeze")
@click.option("--reason", required=True, help="Why, for whoever finds it frozen.")
def freeze(reason: str) -> None:
    """Let nothing move credits from now on, in an emergency; everything else goes on."""
    words = reason.strip()
    if not 1 <= len(words) <= keeping.MAX_REASON:
        raise click.ClickException(f"A reason has 1 to {keeping.MAX_REASON} characters.")
    with database():
        keeping.freeze(actor=Actor(kind="cli"), reason=words)
    click.echo("The ledger is frozen.")


@credits_.command("unfreeze")
def unfreeze() -> None:
    """Let credits be moved again, and say why they could not."""
    with database():
        before = keeping.unfreeze(actor=Actor(kind="cli"))
    if before.frozen_at is not None:
        click.echo(f"It was frozen at {time_text(before.frozen_at)}: {before.frozen_reason}")
    click.echo("The ledger is open again.")
    if before.differences:
        known = (
            "It is frozen again for new ones only."
            if before.known
            else "They are too many to know them again: the next one freezes it again."
        )
        click.echo(f"The last check found {before.differences} differences. {known}")
