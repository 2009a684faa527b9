"""Bursar: accounts, credits and orders for one app. `create_app` is the start-up, in order."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.platform.settings import Settings


def create_app(settings: "Settings | None" = None) -> "Flask":
    """Return the application. It connects to nothing: that is for the worker, after the fork.

    Without settings those of the environment count.

    Raises SettingsError.
    """
    # Imported here, because the launcher uses single modules of this package and starts quickly
    # only without the rest.
    from flask import Flask

    from app import cli
    from app.audit import routes as audit_routes
    from app.audit import service as audit
    from app.auth import (
        account_routes,
        api_key_routes,
        authentication,
        pages,
        password_routes,
        session_routes,
        suspension_routes,
    )
    from app.auth import routes as auth_routes
    from app.credits import hold_routes
    from app.credits import routes as credits_routes
    from app.credits import state as ledger_state
    from app.keys import routes as keys_routes
    from app.keys import service as keys
    from app.mail import service as mail
    from app.orders import catalogue_routes
    from app.orders import routes as orders_routes
    from app.platform import (
        compression,
        cors,
        docs,
        edge,
        error_handlers,
        guards,
        health,
        http,
        idempotency_status,
        openapi,
        outbox,
    )
    from app.platform.settings import load_settings
    from app.support import routes as support_routes
    from app.users import routes as users_routes
    from app.webhooks import backlog as webhook_backlog
    from app.webhooks import routes as webhook_routes
    from app.worker import backlog

    settings = settings or load_settings()
    configure(settings)
    app = Flask("app", static_folder=None)
    # A doubled slash is another path. Werkzeug would redirect, to an address made out of `Host`.
    app.url_map.merge_slashes = False
    app.extensions["bursar"] = settings
    auth_routes.install(app, settings)

    # First, because it brings an error handler of its own, which ours replaces.
    api = openapi.create_api(app, settings)
    # What a request meets on its way in, from the inside out.
    stages: list[Callable[[], None]] = [
        partial(error_handlers.install, app),
        partial(compression.install, app),
        partial(
            guards.install,
            app,
            authenticate=authentication.authenticate,
            record_denied=audit.record_denied,
        ),
        partial(http.install, app),
        partial(cors.install, app, settings),
        partial(edge.install, app, settings),
    ]
    for install in stages:
        install()

    versioned = http.Blueprint("v1", __name__, url_prefix="/api/v1")
    for blueprint in (
        users_routes.blp,
        auth_routes.blp,
        account_routes.blp,
        password_routes.blp,
        session_routes.blp,
        suspension_routes.blp,
        api_key_routes.blp,
        credits_routes.blp,
        credits_routes.staff_blp,
        hold_routes.blp,
        idempotency_status.blp,
        catalogue_routes.blp,
        orders_routes.blp,
        webhook_routes.blp,
        audit_routes.blp,
        support_routes.blp,
    ):
        versioned.register_blueprint(blueprint)
    api.register_blueprint(versioned)
    api.register_blueprint(keys_routes.blp)
    # A frozen ledger is no reason not to be ready: everything but moving credits goes on, and as it
    # is frozen for all machines, a balancer would have none left to send anybody to.
    gauges = (
        ledger_state.gauges,
        outbox.gauges,
        backlog.gauges,
        mail.gauges,
        webhook_backlog.gauges,
    )
    health.install(app, settings, checks={"keys": keys.readiness}, gauges=gauges)
    docs.install(app)
    pages.install(app)
    openapi.install(app, api)
    cli.install(app, settings)
    return app


def configure(settings: "Settings") -> None:
    """Set up what this process has once, for all of its applications.

    Raises SettingsError.
    """
    from app.audit import service as audit
    from app.auth import registration
    from app.auth import service as auth
    from app.keys import master
    from app.keys import service as keys
    from app.platform import idempotency, logging, overload, pagination, ratelimit
    from app.users import passwords
    from app.webhooks import destinations

    logging.configure(settings)
    keys.configure(settings, record=audit.record_signing_key)
    versions = master.versions()
    pagination.use_keys([master.derive("list cursors", version=each) for each in versions])
    idempotency.use_keys([master.derive("idempotency", version=each) for each in versions])
    # By the oldest version: machines that know a new one already go on counting with the others.
    ratelimit.configure(settings, key=master.derive("rate limits", version=min(versions)))
    passwords.configure(settings)
    hashing = overload.Room(passwords.is_full)
    overload.also_wait_for(hashing, "POST /api/v1/auth/login ", "POST /api/v1/users ")
    registration.configure(settings)
    auth.configure(settings)
    destinations.configure(settings)
