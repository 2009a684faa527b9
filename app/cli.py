"""The operator's commands: `flask users …`, `flask credits …`, `flask health`.

Thin: they call the services that the routes call, and print what came of it.
"""

import getpass
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from marshmallow import ValidationError

from app.credits import verification
from app.platform import db, migrations
from app.platform.actor import Actor
from app.platform.errors import AppError
from app.platform.settings import Settings
from app.users import service as users_service
from app.users.schemas import UserIn

users = AppGroup("users", help="People who can sign in.")
credits_ = AppGroup("credits", help="The ledger.")


def install(app: Flask, settings: Settings) -> None:
    """Add the commands, when it is `flask` that made the application.

    A worker doesn't need them, and Alembic, which `flask db` brings, would cost it 6 MB.
    """
    if click.get_current_context(silent=True) is None:
        return
    migrations.install(app, settings)
    app.cli.add_command(users)
    app.cli.add_command(credits_)
    app.cli.add_command(health)


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
    with _database():
        user = users_service.register(**given, roles=("admin",), actor=Actor(kind="cli"))
    click.echo(f"Created administrator {user.email} with id {user.id}.")


@credits_.command("verify")
def verify() -> None:
    """Check the books; exit 1 with the differences when there are any."""
    found = False
    with _database():
        for difference in verification.verify():
            click.echo(difference)
            found = True
    if found:
        raise click.exceptions.Exit(1)
    click.echo("The books are right: every check passed.")


@click.command("health")
def health() -> None:
    """Ask the running service on this machine whether it is alive; exit 1 when it isn't."""
    settings = _settings()
    url = f"http://{settings.server_address}/health"
    try:
        with urllib.request.urlopen(url, timeout=3) as response:
            click.echo(response.read().decode())
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise click.ClickException(f"{url} doesn't answer: {error}") from None


def _settings() -> Settings:
    settings: Settings = current_app.extensions["bursar"]
    return settings


@contextmanager
def _database() -> Iterator[None]:
    """Open a small pool for one command; a refusal becomes one sentence and exit code 1."""
    db.open_pool(_settings(), size=1)
    try:
        yield
    except AppError as error:
        raise click.ClickException(error.text) from None
    finally:
        db.close_pool(timeout=1)
