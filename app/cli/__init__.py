"""The operator's commands, a module for each noun: `flask users …`, `keys …`, `credits …`.

Thin: they call the services that the routes call, and print what came of it.
"""

import click
from flask import Flask

from app.platform.settings import Settings


def install(app: Flask, settings: Settings) -> None:
    """Add the commands, when it is `flask` that made the application."""
    if click.get_current_context(silent=True) is None:
        return
    # Imported here, because a worker doesn't need them, and Alembic, which `flask db` brings, alone
    # would cost it 6 MB.
    from app.cli.auth import auth
    from app.cli.backups import backup, restore_drill
    from app.cli.credits import credits_
    from app.cli.doctor import doctor
    from app.cli.keys import keys
    from app.cli.mail import mail
    from app.cli.processes import health, worker
    from app.cli.users import users
    from app.platform import migrations

    migrations.install(app, settings)
    for group in (users, auth, keys, credits_, mail):
        app.cli.add_command(group)
    for command in (worker, health, backup, restore_drill, doctor):
        app.cli.add_command(command)
