"""A URL that names several hosts leads to one that answers and takes writes."""

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg2 import OperationalError
from sqlalchemy import URL, make_url

from app.platform.engine import TIMEOUTS, _first_good, make_engine
from app.platform.settings import Settings
from app.platform.settings.addresses import database_url


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a host that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def place(url: URL) -> tuple[str, str]:
    """Return host and port of a URL with one host."""
    return str(url.query.get("host") or url.host), str(url.query.get("port") or url.port or 5432)


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ("u:p@a:5433,b/d", "host=a,b&target_session_attrs=read-write&port=5433,"),
        ("u@a,b/d?sslmode=require", "host=a,b&target_session_attrs=read-write&sslmode=require"),
        ("u@[::1]:1,[::2]:2/d", "host=::1,::2&target_session_attrs=read-write&port=1,2"),
        ("u@a,b/d?target_session_attrs=any", "host=a,b&target_session_attrs=any"),
    ],
)
def test_several_hosts_are_spelled_so_that_both_drivers_understand_them(
    raw: str, query: str
) -> None:
    user = raw.partition("@")[0]
    assert database_url(f"postgresql://{raw}") == f"postgresql+psycopg2://{user}@/d?{query}"


def test_a_host_that_says_nothing_is_passed_over_and_asked_last_from_then_on(
    settings: Settings, silent: int
) -> None:
    url = make_url(settings.database_url)
    host, port = place(url)
    several = url.set(host=None, port=None).update_query_dict(
        {"host": f"127.0.0.1,{host}", "port": f"{silent},{port}"}
    )
    engine = make_engine(several.render_as_string(hide_password=False), timeouts=TIMEOUTS)
    for least, most in ((1.9, 4), (0, 1)):
        begun = time.monotonic()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        assert least <= time.monotonic() - begun < most
        engine.dispose()


def test_whoever_gives_up_waiting_for_a_host_leaves_the_next_one_to_the_next() -> None:
    """As `/ready` does, which waits for a second only."""
    asked: list[Any] = []

    def connect(*, host: str, port: str | None) -> str:
        asked.append((host, port))
        if host == "gone":
            raise TimeoutError
        if host == "away":
            raise OperationalError
        return host

    dialect = SimpleNamespace(connect=connect)
    one_of = _first_good(["gone", "away", "good"], [""])
    with pytest.raises(TimeoutError):
        one_of(dialect, None, [], {})
    assert [one_of(dialect, None, [], {}) for _ in range(2)] == ["good", "good"]
    assert [host for host, _ in asked] == ["gone", "away", "good", "good"]
    none_of = _first_good(["away", "away"], ["1", "2"])
    with pytest.raises(OperationalError):
        none_of(dialect, None, [], {})
    assert asked[-2:] == [("away", "1"), ("away", "2")]
