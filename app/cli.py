"""The operator's commands: `flask users …`, `auth …`, `keys …`, `credits …`, `mail …`, `worker`.

Thin: they call the services that the routes call, and print what came of it.
"""

import getpass
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

import click
from flask import Flask, current_app
from flask.cli import AppGroup
from marshmallow import ValidationError

from app.credits import keeping, verification
from app.keys import rotation
from app.keys.values import Change
from app.mail import service as mail_service
from app.platform import db, migrations
from app.platform.actor import Actor
from app.platform.errors import AppError
from app.platform.settings import Settings
from app.support import erasure
from app.users import calibration
from app.users import service as users_service
from app.users.schemas import UserIn

users = AppGroup("users", help="People who can sign in.")
auth = AppGroup("auth", help="Signing in.")
keys = AppGroup("keys", help="The keys that sign access tokens.")
credits_ = AppGroup("credits", help="The ledger.")
mail = AppGroup("mail", help="Mails that were given up.")
# How the sentences end that say what an emergency costs.
_FOREIGN = "a service that keeps the public keys may refuse its tokens for ten minutes."


def install(app: Flask, settings: Settings) -> None:
    """Add the commands, when it is `flask` that made the application.

    A worker doesn't need them, and Alembic, which `flask db` brings, would cost it 6 MB.
    """
    if click.get_current_context(silent=True) is None:
        return
    migrations.install(app, settings)
    app.cli.add_command(users)
    app.cli.add_command(auth)
    app.cli.add_command(keys)
    app.cli.add_command(credits_)
    app.cli.add_command(mail)
    app.cli.add_command(worker)
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
        user = users_service.create_admin(**given, actor=Actor(kind="cli"))
    click.echo(f"Created administrator {user.email} with id {user.id}.")


@users.command("erase")
@click.argument("user_id", type=click.UUID)
def erase(user_id: UUID) -> None:
    """Erase a user who is being deleted at once; nothing brings them back."""
    with _database():
        erasure.erase_now(user_id, actor=Actor(kind="cli"))
    click.echo(f"User {user_id} is erased.")


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
    alone, workers = calibration.measure(cost), _settings().server_workers
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


@credits_.command("verify")
def verify() -> None:
    """Check the books; exit 1 with the differences when there are any."""
    found, begun = False, monotonic()

    def tell(done: int, number: int) -> None:
        click.echo(f"{done} of {number} checks, {monotonic() - begun:.0f} s", err=True)

    with _database():
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
    with _database():
        keeping.freeze(actor=Actor(kind="cli"), reason=words)
    click.echo("The ledger is frozen.")


@credits_.command("unfreeze")
def unfreeze() -> None:
    """Let credits be moved again, and say why they could not."""
    with _database():
        before = keeping.unfreeze(actor=Actor(kind="cli"))
    if before.frozen_at is not None:
        click.echo(f"It was frozen at {_time(before.frozen_at)}: {before.frozen_reason}")
    click.echo("The ledger is open again.")
    if before.differences:
        known = (
            "It is frozen again for new ones only."
            if before.known
            else ("They are too many to know them again: the next one freezes it again.")
        )
        click.echo(f"The last check found {before.differences} differences. {known}")


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
        line = f"{row.id}  {row.state:9}  since {_time(since)}  master key {row.master_key_version}"
        nexts = [
            f"  to be {step.change} at {_time(step.at)}" for step in steps if step.key_id == row.id
        ]
        click.echo(line + "".join(nexts))
    for step in steps:
        if step.change == Change.CREATED:
            click.echo(f"The next key is published at {_time(step.at)}.")


@keys.command("rotate")
@click.option("--now", is_flag=True, help="Let it sign at once, for an emergency.")
def rotate(now: bool) -> None:
    """Publish the next signing key; it signs 20 minutes later."""
    with _signing_keys():
        done = rotation.rotate(at_once=now, actor=Actor(kind="cli"))
    if now:
        click.echo(f"Key {done.key_id} signs from now on; {_FOREIGN}")
    elif done.is_new:
        click.echo(f"Key {done.key_id} is published and signs from {_time(done.signs_at)}.")
    else:
        click.echo(
            f"Key {done.key_id} waits already and signs from {_time(done.signs_at)};"
            " nothing was changed."
        )


@keys.command("revoke")
@click.argument("kid", type=click.UUID)
def revoke(kid: UUID) -> None:
    """Let a key verify nothing from now on; everybody with a token of it refreshes."""
    with _signing_keys():
        signing = rotation.revoke(key_id=kid, actor=Actor(kind="cli"))
    click.echo(f"Key {kid} is revoked, and key {signing} signs; {_FOREIGN}")


@mail.command("list")
def list_mails() -> None:
    """Show how many mails wait, and those that were given up: id, kind, since when."""
    with _database():
        number, since = mail_service.waiting()
        dead = mail_service.list_dead()
    oldest = f", the oldest since {_time(since)}" if since else ""
    click.echo(f"{number} waiting{oldest}; {len(dead)} given up.")
    for row in dead:
        click.echo(f"{row.id}  {row.kind:18}  since {_time(row.settled_at)}")


@mail.command("retry")
@click.argument("mail_id", type=click.UUID, required=False)
def retry_mails(mail_id: UUID | None) -> None:
    """Try a mail that was given up again, or all of them."""
    with _database():
        number = mail_service.retry(mail_id)
    click.echo(f"{number} {'mail is' if number == 1 else 'mails are'} tried again.")


@click.command("worker")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    # Shorter than the 45 s after which the service's processes are killed.
    default=35,
    show_default=True,
    help="Seconds to finish jobs in when it is told to stop; the others go to another worker.",
)
def worker(grace: float) -> None:
    """Send mails and do the other jobs, until SIGTERM or Ctrl-C."""
    # Nothing else needs its libraries.
    from app.worker import running

    running.run(_settings(), grace=grace)


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


@contextmanager
def _signing_keys() -> Iterator[None]:
    """Open the database for a command about signing keys, unless a shared secret signs."""
    if _settings().auth_jwt_algorithm == "HS256":
        raise click.ClickException("APP_AUTH_JWT_ALGORITHM is HS256, which has no signing keys.")
    with _database():
        yield


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


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
