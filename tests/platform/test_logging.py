"""What a log line holds, and what it never does."""

import json
import logging as stdlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import structlog
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from structlog.contextvars import bound_contextvars

from app.platform import log_lines, logging
from app.platform.errors import Conflict
from app.platform.settings import Settings, load_settings
from tests.server.serving import environment

ROOT = Path(__file__).resolve().parents[2]
Lines = Callable[[], list[dict[str, Any]]]


def settings_with(**variables: str) -> Settings:
    given = {
        "APP_ENV": "test",
        "APP_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/nothing",
        "APP_LOG_FORMAT": "json",
        **variables,
    }
    return load_settings(given)


@pytest.fixture
def configured() -> Iterator[Callable[..., None]]:
    """A function that configures logging; afterwards it is as it was."""
    root = stdlib.getLogger()
    before = structlog.get_config()
    processors = before["processors"][:]
    handlers, level = root.handlers[:], root.level
    named = {name: stdlib.getLogger(name).level for name in ("app.quiet", "foreign", "gunicorn")}
    yield lambda **variables: logging.configure(settings_with(**variables))
    structlog.configure(**before)
    before["processors"][:] = processors
    root.handlers, root.level = handlers, level
    for name, was in named.items():
        stdlib.getLogger(name).setLevel(was)


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """A function that returns what was written to standard error since it was last called."""
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_a_line_is_one_json_object(configured: Callable[..., None], lines: Lines) -> None:
    configured(APP_BUILD_COMMIT="abc123")
    with bound_contextvars(request_id="r-1"):
        logging.get_logger("app.some").info("user_registered", user_id="u-1", note="two\nlines")
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("version").endswith("+abc123")
    assert line == {
        "level": "info",
        "event": "user_registered",
        "logger": "app.some",
        "request_id": "r-1",
        "user_id": "u-1",
        "note": "two\nlines",
        "service": "bursar",
    }


def test_other_libraries_write_the_same_lines(
    configured: Callable[..., None], lines: Lines
) -> None:
    configured()
    with bound_contextvars(request_id="r-1"):
        stdlib.getLogger("foreign").warning("it is %s\nhere", "hot")
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == (
        "it is hot\nhere",
        "warning",
        "foreign",
    )
    assert (line["request_id"], line["service"]) == ("r-1", "bursar")


def test_each_module_has_its_level(configured: Callable[..., None], lines: Lines) -> None:
    configured(APP_LOG_LEVEL="warning", APP_LOG_LEVELS="app.quiet=error,foreign=debug")
    for name in ("app.quiet", "app.other", "foreign"):
        for write in (logging.get_logger(name), stdlib.getLogger(name)):
            write.debug("fine")
            write.warning("odd")
            write.error("broken")
    seen = [(line["logger"], line["event"]) for line in lines()]
    assert seen.count(("app.quiet", "odd")) == 0
    assert seen.count(("app.other", "fine")) == 0
    assert seen.count(("app.other", "odd")) == 2
    assert seen.count(("foreign", "fine")) == 2
    assert [seen.count((name, "broken")) for name in ("app.quiet", "app.other")] == [2, 2]


def test_gunicorn_is_not_asked_for_paths_unless_by_name(
    configured: Callable[..., None], lines: Lines
) -> None:
    configured(APP_LOG_LEVEL="debug")
    stdlib.getLogger("gunicorn.error").debug("GET /users/canary")
    assert lines() == []
    configured(APP_LOG_LEVEL="debug", APP_LOG_LEVELS="gunicorn=debug")
    stdlib.getLogger("gunicorn.error").debug("GET /users/canary")
    assert len(lines()) == 1


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("Invalid request from ip=10.1.2.3: Invalid HTTP header: 'canary'", ()),
        ("Error handling request %s %s", ("GET", "/login?token=canary")),
    ],
)
def test_gunicorn_does_not_quote_clients(
    configured: Callable[..., None], lines: Lines, message: str, arguments: tuple[str, ...]
) -> None:
    configured()
    stdlib.getLogger("gunicorn.error").warning(message, *arguments)
    (line,) = lines()
    assert message.startswith(line["event"])
    assert "canary" not in str(line)
    assert "10.1.2.3" not in str(line)


def test_an_error_is_a_type_its_causes_and_where_but_not_its_words(
    configured: Callable[..., None], lines: Lines
) -> None:
    configured()
    secret = "canary-value"
    try:
        try:
            raise KeyError(secret)
        except KeyError as missing:
            raise ValueError(f"no {secret}") from missing
    except ValueError:
        logging.get_logger("app.some").exception("it_broke", order_id="o-1")
    (line,) = lines()
    assert (line["level"], line["error"], line["causes"]) == ("error", "ValueError", ["KeyError"])
    assert line["order_id"] == "o-1"
    assert "tests/platform/test_logging.py:" in line["trace"]
    assert "caused by KeyError" in line["trace"]
    assert secret not in str(line)


def test_an_error_of_a_foreign_library_is_told_the_same_way(
    configured: Callable[..., None], lines: Lines
) -> None:
    configured()
    try:
        raise FileNotFoundError(2, "No such file", "/home/canary")
    except FileNotFoundError:
        stdlib.getLogger("foreign").exception("it broke")
    (line,) = lines()
    assert line["error"] == "FileNotFoundError (No such file)"
    assert "canary" not in str(line)


def test_an_error_of_our_own_shows_its_code() -> None:
    assert log_lines.describe(Conflict("canary")) == "app.platform.errors.Conflict: CONFLICT"


def test_a_database_error_shows_its_state_and_constraint_but_no_row(settings: Settings) -> None:
    engine = create_engine(settings.database_migration_url, hide_parameters=True)
    insert = text("INSERT INTO pg_temp.t VALUES (:value)")
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE t (v text CONSTRAINT uq_t_v UNIQUE)"))
        connection.execute(insert, {"value": "canary@example.com"})
        with pytest.raises(IntegrityError) as caught:
            connection.execute(insert, {"value": "canary@example.com"})
    engine.dispose()
    original = caught.value.orig
    assert isinstance(original, psycopg2.Error)
    assert log_lines.describe(original) == "psycopg2.errors.UniqueViolation (23505, uq_t_v)"


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, object(), {1: "a"}, b"bytes"])
def test_no_value_makes_a_line_fail(
    configured: Callable[..., None], lines: Lines, value: Any
) -> None:
    configured()
    logging.get_logger("app.some").info("odd", value=value)
    assert [line["event"] for line in lines()] == ["odd"]


def test_errors_that_cause_each_other_end(configured: Callable[..., None], lines: Lines) -> None:
    configured()
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    logging.get_logger("app.some").error("odd", exc_info=first)
    assert [line["causes"] for line in lines()] == [["KeyError"]]


def test_developers_get_readable_lines_that_nobody_can_forge(
    configured: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    configured(APP_LOG_FORMAT="pretty")
    log = logging.get_logger("app.some")
    log.info("user_registered", user_id="u-1", name="two\nlines \x1b[31m", session_id=None)
    try:
        raise ValueError("with its words")
    except ValueError:
        log.exception("it_broke")
    written = capfd.readouterr().err
    first, second, *rest = written.splitlines()
    assert "info" in first
    assert "app.some: user_registered  user_id=u-1 name='two\\nlines \\x1b[31m'" in first
    assert "it_broke" in second
    assert rest[0].startswith("  Traceback")
    assert rest[-1] == "  ValueError: with its words"


def test_a_logger_in_use_follows_when_logging_is_configured_again(
    configured: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    configured(APP_LOG_FORMAT="pretty")
    log = logging.get_logger("app.some")
    log.info("before")
    configured()
    log.info("after")
    first, second = capfd.readouterr().err.splitlines()
    assert "app.some: before" in first
    assert json.loads(second)["event"] == "after"


def test_a_closed_standard_error_breaks_nothing(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured()
    monkeypatch.setattr(sys, "stderr", None)
    logging.get_logger("app.some").info("unheard")


UNCAUGHT = """
import sys, threading, warnings
from gevent import monkey
monkey.patch_all()
import gevent
from app.platform import log_lines, logging
from app.platform.settings import load_settings
logging.configure(load_settings())
logging.report_uncaught()
def fail(): raise ValueError("canary-message")
gevent.spawn(fail)
gevent.sleep(0.01)
threading.Thread(target=fail).start()
gevent.sleep(0.01)
threading.Thread(target=sys.exit).start()
warnings.warn("old-fashioned")
fail()
"""


@pytest.mark.usefixtures("traced")
def test_what_nobody_caught_is_one_line_wherever_it_happened(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNCAUGHT],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    every = [json.loads(line) for line in ended.stderr.splitlines()]
    broken = [line for line in every if line["event"] == "uncaught_exception"]
    assert [line["where"] for line in broken] == ["greenlet", "thread", "program"]
    assert {(line["level"], line["error"]) for line in broken} == {("error", "ValueError")}
    assert [line["level"] for line in every if "old-fashioned" in line["event"]] == ["warning"]
    assert "canary" not in ended.stderr
