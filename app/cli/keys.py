"""`flask keys …`: the keys that sign access tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import click
from flask.cli import AppGroup

from app.cli.opening import database, settings, time_text
from app.keys import rotation
from app.keys.values import Change
from app.platform.actor import Actor

keys = AppGroup("keys", help="The keys that sign access tokens.")
# How the sentences end that say what an emergency costs.
_FOREIGN = "a service that keeps the public keys may refuse its tokens for ten minutes."


@keys.command("list")
def list_keys() -> None:
    """Show all signing keys, and what happens to them next."""
    with _signing_keys():
        rows, steps = rotation.overview()
    if not rows:
        click.echo("There are none yet. The service makes the first one when it needs it.")
        return
    for row in rows:
        since = row.retired_at or row.activated_at or row.created_at
        nexts = [
            f"  to be {step.change} at {time_text(step.at)}"
            for step in steps
            if step.key_id == row.id
        ]
        click.echo(
            f"{row.id}  {row.state:9}  since {time_text(since)}"
            f"  master key {row.master_key_version}" + "".join(nexts)
        )
    for step in steps:
        if step.change == Change.CREATED:
            click.echo(f"The next key is published at {time_text(step.at)}.")


@keys.command("rotate")
@click.option("--now", is_flag=True, help="Let it sign at once, for an emergency.")
def rotate(now: bool) -> None:
    """Publish the next signing key; it signs 20 minutes later."""
    with _signing_keys():
        done = rotation.rotate(at_once=now, actor=Actor(kind="cli"))
    if now:
        click.echo(f"Key {done.key_id} signs from now on; {_FOREIGN}")
    elif done.is_new:
        click.echo(f"Key {done.key_id} is published and signs from {time_text(done.signs_at)}.")
    else:
        click.echo(
            f"Key {done.key_id} waits already and signs from {time_text(done.signs_at)};"
            " nothing was changed."
        )


@keys.command("revoke")
@click.argument("kid", type=click.UUID)
def revoke(kid: UUID) -> None:
    """Let a key verify nothing from now on; everybody with a token of it refreshes."""
    with _signing_keys():
        signing = rotation.revoke(key_id=kid, actor=Actor(kind="cli"))
    click.echo(f"Key {kid} is revoked, and key {signing} signs; {_FOREIGN}")


@contextmanager
def _signing_keys() -> Iterator[None]:
    """Open the database for a command about signing keys, unless a shared secret signs."""
    if settings().auth_jwt_algorithm == "HS256":
        raise click.ClickException("APP_AUTH_JWT_ALGORITHM is HS256, which has no signing keys.")
    with database():
        yield
