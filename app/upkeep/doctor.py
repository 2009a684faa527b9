"""Examines an installation from its settings to its mail server, and says what to mend."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy.exc import OperationalError

from app.keys import rotation
from app.mail import transport
from app.mail.errors import MailTemporary
from app.platform import clock, db
from app.platform.settings import Settings
from app.upkeep import server, signing
from app.upkeep.findings import Finding, problem, warning

# A step that is due is done when a worker looks at its keys, twice a minute while requests come.
LATE = timedelta(hours=1)
LOCAL = ("localhost", "127.0.0.1", "::1")


def examine(settings: Settings, *, machines: int) -> Iterator[tuple[str, list[Finding]]]:
    """Give the name of each part that is examined, and what is wrong with it.

    `machines` run the web server with these settings, and a worker each. Nothing is changed, and no
    mail is sent. Without the database, the parts that need it aren't examined.
    """
    yield "settings", list(_settings(settings))
    reachable = list(_connections(settings))
    yield "connections", reachable
    if not reachable:
        with db.one_connection(settings) as connection:
            yield "database", list(server.durability(connection, settings))
            yield "roles", list(server.roles(connection, settings))
            yield "limits", list(server.limits(connection, settings, machines=machines))
            yield "migrations", list(server.schema(connection))
            yield "clock", list(server.time_difference(connection))
            ready = server.has_tables(connection)
        if ready and settings.auth_jwt_algorithm != "HS256":
            with _pool(settings):
                yield "keys", list(_keys(settings))
    yield "mail", list(_mail(settings))


def _settings(settings: Settings) -> Iterator[Finding]:
    """Look at what is allowed, and yet mostly a mistake. What isn't allowed has ended the start."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        yield problem(
            f"Nothing can be written to APP_DATA_DIR, {settings.data_dir}: {error.strerror}. The"
            " metrics of the web server lie there: make it writable for this user."
        )
    if not settings.is_production:
        return
    url = urlsplit(settings.public_url)
    if url.scheme == "http" and url.hostname not in LOCAL:
        yield warning(
            "APP_PUBLIC_URL begins with http: browsers take no sign-in cookie from it, and"
            " passwords cross the network in plain text. Put a proxy with TLS in front, and say"
            " https."
        )
    if url.scheme == "https" and not settings.server_trusted_proxies:
        yield warning(
            "APP_PUBLIC_URL begins with https, so a proxy stands in front, and"
            " APP_SERVER_TRUSTED_PROXIES is 0: everybody has the proxy's address and shares its"
            " limits. Set it to the number of proxies."
        )
    if not settings.rate_limit_enabled:
        yield warning(
            "APP_RATE_LIMIT_ENABLED is false: passwords can be guessed without a limit. Set it to"
            " true."
        )
    if not (settings.metrics_bind or settings.metrics_token):
        yield warning(
            "Nobody can read /metrics: set APP_METRICS_BIND or APP_METRICS_TOKEN, or no alert can"
            " tell you that the books are frozen."
        )


def _connections(settings: Settings) -> Iterator[Finding]:
    """Connect with each of the URLs; they must lead to one database."""
    found = {}
    for variable, migration in (("APP_DATABASE_URL", False), ("APP_DATABASE_MIGRATION_URL", True)):
        try:
            with db.one_connection(settings, migration=migration) as connection:
                found[variable] = server.identity(connection)
        except OperationalError as error:
            reason = " ".join(str(error.orig).split())
            yield problem(
                f"The database of {variable} can't be reached: {reason}. Correct the URL, or start"
                " the server."
            )
    if len(set(found.values())) > 1:
        yield problem(
            "APP_DATABASE_URL and APP_DATABASE_MIGRATION_URL lead to different databases:"
            " migrations and backups would be of one that the service doesn't use. Name the same in"
            " both."
        )


def _keys(settings: Settings) -> Iterator[Finding]:
    """Ask whether the master keys open the signing keys, and whether somebody changes these."""
    yield from map(problem, signing.unopened())
    (first, *others) = (version for version, _ in settings.auth_master_keys)
    if others and max(others) > first:
        yield warning(
            f"APP_AUTH_MASTER_KEYS knows master key {max(others)}, and key {first} stands first:"
            " put the newest one first, once every machine knows it."
        )
    for step in rotation.overview()[1]:
        # The first key of all is made when the service needs it.
        if rotation.AT_ONCE < step.at < clock.now() - LATE:
            yield warning(
                f"A signing key should have been {step.change} at {step.at:%Y-%m-%dT%H:%M:%SZ}. The"
                " service does it by itself while requests come: is it running?"
            )


def _mail(settings: Settings) -> Iterator[Finding]:
    """Connect to the mail server, and send nothing."""
    if not transport.is_configured(settings):
        yield warning("APP_MAIL_URL isn't set: mails wait until it is, and users never get them.")
        return
    try:
        transport.probe(settings)
    except MailTemporary as failure:
        yield problem(
            f"The mail server of APP_MAIL_URL takes no mails from us: {failure}. Mails wait until"
            " it does; correct the URL, or mend the server."
        )


@contextmanager
def _pool(settings: Settings) -> Iterator[None]:
    db.open_pool(settings, size=1)
    try:
        yield
    finally:
        db.close_pool(timeout=1)
