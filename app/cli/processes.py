"""`flask worker` and `flask health`: the processes of a running service."""

import urllib.error
import urllib.request

import click

from app.cli.opening import settings
from app.platform import server_state, startup


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

    with startup.exit_when_refused():
        server_state.check(settings())
        running.run(settings(), grace=grace)


@click.command("health")
def health() -> None:
    """Ask the running service on this machine whether it is alive; exit 1 when it isn't."""
    url = f"http://{settings().server_address}/health"
    try:
        with urllib.request.urlopen(url, timeout=3) as response:
            click.echo(response.read().decode())
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise click.ClickException(f"{url} doesn't answer: {error}") from None
