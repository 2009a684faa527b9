"""`flask users …`: people who can sign in."""

import getpass
import sys
from uuid import UUID

import click
from flask.cli import AppGroup
from marshmallow import ValidationError

from app.cli.opening import database
from app.platform.actor import Actor
from app.support import erasure
from app.users import service as users_service
from app.users.schemas import UserIn

users = AppGroup("users", help="People who can sign in.")


@users.command("create-admin")
@click.option("--email", required=True, help="The address to sign in with.")
@click.option("--name", required=True, help="How to greet them, 1 to 100 characters.")
def create_admin(email: str, name: str) -> None:
    """Create an administrator; the password is read from standard input."""
    typed = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        given = UserIn().load({"email": email, "name": name, "password": typed.rstrip("\r\n")})
    except ValidationError as refusal:
        # The messages say what a field must be, and never repeat what it was.
        problems = [f"{field}: {' '.join(said)}" for field, said in refusal.messages_dict.items()]
        raise click.ClickException("\n".join(problems)) from None
    with database():
        user = users_service.create_admin(**given, actor=Actor(kind="cli"))
    click.echo(f"Created administrator {user.email} with id {user.id}.")


@users.command("erase")
@click.argument("user_id", type=click.UUID)
def erase(user_id: UUID) -> None:
    """Erase a user who is being deleted at once; nothing brings them back."""
    with database():
        erasure.erase_now(user_id, actor=Actor(kind="cli"))
    click.echo(f"User {user_id} is erased.")
