"""The fixtures of all tests, and what a run sets up once: server, template, closed sockets."""

import gc
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from flask import Flask
from sqlalchemy import Engine, Row, create_engine, text

from app import configure, create_app
from app.platform.settings import Settings
from tests import canaries, network, people, seen, tracing
from tests.client import Client
from tests.database import Databases, pool_on, run
from tests.mailing import Postman
from tests.people import TestUser

# The worker's tests are in two folders: those that take long are system tests.
pytest_plugins = ("tests.worker.office",)

# The process that collects and distributes has this; with xdist it runs no test itself.
RUN = pytest.StashKey[ExitStack]()
DATABASES = pytest.StashKey[dict[str, Any]]()
NOTES = pytest.StashKey[list[dict[str, Any]]]()
DIFFERENCES = pytest.StashKey[list[str]]()
LEAKS = pytest.StashKey[list[str]]()


def is_controller(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    # How long one example takes says how busy the machine is, and not whether the code is right.
    hypothesis.settings.register_profile("bursar", deadline=None)
    hypothesis.settings.load_profile("bursar")
    network.close()
    canaries.listen()
    if is_controller(config):
        config.stash[NOTES] = []
        config.stash[DIFFERENCES] = []
        config.stash[LEAKS] = []
        # A run that is told to end removes its server as one that is interrupted by hand.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_finish() -> None:
    # What is there by now stays: looking through it for garbage again and again takes a tenth.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if is_controller(config) and not config.option.collectonly:
        config.stash[RUN] = ExitStack()
        config.stash[DATABASES] = config.stash[RUN].enter_context(run())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["databases"] = node.config.stash.get(DATABASES, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    # A worker that crashed has no notes.
    if "seen" in getattr(node, "workeroutput", {}):
        node.config.stash[NOTES].append(node.workeroutput["seen"])
        node.config.stash[LEAKS].extend(node.workeroutput["leaks"])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if not is_controller(config):
        config.workeroutput["seen"] = seen.notes()
        config.workeroutput["leaks"] = canaries.leaks()
        return
    notes = [*config.stash[NOTES], seen.notes()]
    config.stash[DIFFERENCES] += seen.differences(notes, whole_run=is_whole_run(config, exitstatus))
    config.stash[LEAKS] += canaries.leaks()
    failed = config.stash[DIFFERENCES] + config.stash[LEAKS]
    if failed and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stash = terminalreporter.config.stash
    for title, sentences in (
        ("answers seen and documented", stash[DIFFERENCES]),
        ("secrets that got out", stash[LEAKS]),
    ):
        if sentences:
            terminalreporter.section(title, sep="=", red=True)
        for sentence in sentences:
            terminalreporter.line(sentence)


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].close()


def is_whole_run(config: pytest.Config, exitstatus: int) -> bool:
    """Tell whether every test ran and passed, so that an answer nobody has seen is a fact."""
    chosen = config.option.keyword or config.option.markexpr or config.option.collectonly
    everything = config.args == config.getini("testpaths")
    return everything and not chosen and exitstatus == pytest.ExitCode.OK


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """The run's server, for tests that need a database of their own."""
    config = request.config
    return Databases(
        **getattr(config, "workerinput", {}).get("databases") or config.stash[DATABASES]
    )


@pytest.fixture(scope="session")
def settings(databases: Databases) -> Iterator[Settings]:
    """The settings of this process's own copy of the template."""
    with databases.fresh() as settings:
        yield settings


@pytest.fixture(scope="session")
def pool(settings: Settings) -> Iterator[None]:
    """This process's pool, open on its own database."""
    with pool_on(settings):
        yield


@pytest.fixture(scope="session")
def app(settings: Settings, pool: None) -> Flask:
    """The application on this process's own database."""
    return create_app(settings)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let coverage follow the processes that the test starts."""
    for name, value in tracing.variables().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def client(app: Flask) -> Client:
    """A client without cookies and without a token."""
    return Client(app)


@pytest.fixture
def make_user(app: Flask) -> Callable[..., TestUser]:
    """A function that registers a user with `credits` and `roles`, and signs them in."""
    return partial(people.make_user, app)


@pytest.fixture
def admin(make_user: Callable[..., TestUser]) -> TestUser:
    """A signed-in administrator."""
    return make_user(roles=("admin",))


@pytest.fixture(scope="session")
def owner_engine(settings: Settings) -> Iterator[Engine]:
    """Connections as the owner of the tables, outside of the application's pool."""
    # Kept, because opening one takes longer than most statements; a test may have cut it.
    engine = create_engine(
        settings.database_migration_url, pool_pre_ping=True, isolation_level="AUTOCOMMIT"
    )
    yield engine
    engine.dispose()


@pytest.fixture
def sql(owner_engine: Engine) -> Callable[..., list[Row[Any]]]:
    """A function that executes a statement as the owner, each in a transaction of its own."""

    def execute(statement: str, **parameters: Any) -> list[Row[Any]]:
        with owner_engine.connect() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    return execute


@pytest.fixture
def postman(settings: Settings, sql: Callable[..., list[Row[Any]]], pool: None) -> Postman:
    """Who brings users their mails."""
    return Postman(settings=settings, sql=sql)


@pytest.fixture
def empty_database(databases: Databases, settings: Settings, pool: None) -> Iterator[Settings]:
    """The settings of a database without users, which the pool is on while the test runs."""
    with databases.fresh() as fresh, pool_on(fresh, instead_of=settings):
        # The signing keys that this process remembers belong to one database.
        configure(fresh)
        yield fresh
    configure(settings)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder for one test, which the user who runs PostgreSQL can enter."""
    # pytest's own folders are private: as root, the database would go to /var/lib.
    folder = Path(tempfile.mkdtemp(prefix="bursar-"))
    try:
        folder.chmod(0o711)
        yield folder / "data"
    finally:
        shutil.rmtree(folder)
