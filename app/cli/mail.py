"""`flask mail …`: mails that were given up."""

from uuid import UUID

import click
from flask.cli import AppGroup

from app.cli.opening import database, time_text
from app.mail import service as mail_service

mail = AppGroup("mail", help="Mails that were given up.")


@mail.command("list")
def list_mails() -> None:
    """Show how many mails wait, and those that were given up: id, kind, since when."""
    with database():
        number, since = mail_service.waiting()
        dead = mail_service.list_dead()
    oldest = f", the oldest since {time_text(since)}" if since else ""
    click.echo(f"{number} waiting{oldest}; {len(dead)} given up.")
    for row in dead:
        click.echo(f"{row.id}  {row.kind:18}  since {time_text(row.settled_at)}")


@mail.command("retry")
@click.argument("mail_id", type=click.UUID, required=False)
def retry_mails(mail_id: UUID | None) -> None:
    """Try a mail that was given up again, or all of them."""
    with database():
        number = mail_service.retry(mail_id)
    click.echo(f"{number} {'mail is' if number == 1 else 'mails are'} tried again.")
