"""What gunicorn's master does on a signal: drain before it stops, and reload only what is sound.

gunicorn closes its listeners before a balancer could know, and a reload with settings that can't be
used ends its master and with it the service. Its main loop looks the handlers up by their names on
the master, so it takes ours.
"""

import gc
import signal
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from time import monotonic
from typing import Any

from app.platform import health, log_lines, logging, reload_trial, startup, time_limits
from app.platform.settings import Settings, SettingsError, load_settings

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
# What the master did with these can't be done again while it serves.
LASTING = ("env", "server_host", "server_port", "metrics_bind", "data_dir")
log = logging.get_logger(__name__)


def take_over(server: Any) -> None:
    """Answer the signals to this master from now on; called once, before it binds."""
    server.handle_term = partial(_drain_and_stop, server)
    server.handle_int = partial(_stop, server, type(server).handle_int)
    server.handle_quit = partial(_stop, server, type(server).handle_quit)
    server.handle_hup = partial(_reload, server)


def _stop(server: Any, stop: Callable[[Any], None]) -> None:
    """Stop as gunicorn does, without a time to drain: somebody waits at a keyboard."""
    health.announce_stop()
    stop(server)


def _drain_and_stop(server: Any) -> None:
    """Let `/ready` say 503 and go on serving until balancers have seen it; then stop.

    Another signal to stop ends the wait. Workers that die meanwhile are still replaced.
    """
    health.announce_stop()
    seconds = startup.settings_or_exit().server_drain_seconds
    if seconds:
        log.info("draining", seconds=seconds)
    end = monotonic() + seconds
    while (left := end - monotonic()) > 0:
        if not STOP_SIGNALS.isdisjoint(server.wait_for_signals(timeout=min(left, 1.0))):
            break
        server.reap_workers()
        server.murder_workers()
        server.manage_workers()
    # gunicorn's word for a stop in its main loop.
    raise StopIteration


def _reload(server: Any) -> None:
    """Read the settings anew, and replace the workers; or say why not, and change nothing."""
    old = startup.settings_or_exit()
    try:
        new = load_settings()
        connections = _try(server, old, new)
    except SettingsError as refusal:
        log.error("reload_refused", problems=refusal.problems)
        return
    except Exception as error:
        # Whatever it is, it must not end a service that runs well.
        log.exception("reload_refused", problems=[log_lines.describe(error)])
        return
    startup.adopt(new, connections=connections)
    # What was kept from the collector for the fork includes the old application.
    gc.unfreeze()
    reload_trial.forget_application(server.app)
    server.app.reload()
    server.setup(server.app)
    # gunicorn's own reload then waits until the old workers are gone, and hears no SIGTERM for as
    # long as their longest request takes. They need no waiting for.
    for _ in range(server.cfg.workers):
        server.spawn_worker()
    server.manage_workers()
    log.info("reloaded", changed=_changed(old, new))


def _try(server: Any, old: Settings, new: Settings) -> int | None:
    """Make sure that workers could live with the new settings; return the size of their pools.

    A fault that the old settings have too, such as a database that is away, is none of theirs.

    Raises SettingsError.
    """
    changed = _changed(old, new)
    problems = [
        f"APP_{name.upper()} can't change while the service runs; restart it, or put the old value"
        " back."
        for name in changed
        if name in LASTING
    ]
    if problems:
        raise SettingsError(problems)
    time_limits.check(new, graceful_timeout=server.cfg.graceful_timeout)
    outcome = reload_trial.run(server, new)
    if changed and outcome.faults:
        known = reload_trial.run(server, old).faults
        problems = [
            f"A worker wouldn't be ready with them: {check} is {fault}."
            for check, fault in outcome.faults.items()
            if known.get(check) != fault
        ]
    if outcome.problems or problems:
        raise SettingsError(outcome.problems + problems)
    return outcome.connections


def _changed(old: Settings, new: Settings) -> list[str]:
    """Name the settings that have another value."""
    names = [one.name for one in fields(Settings)]
    return [name for name in names if getattr(old, name) != getattr(new, name)]
