"""What a worker says about itself in the metrics, for as long as it lives."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests import tracing
from tests.database import Databases
from tests.scraped import samples
from tests.server.serving import Server, serving, wait_until

DATABASE = 'http_request_database_seconds_{}{{method="GET",route="/database/<float:seconds>"}}'


@pytest.fixture(scope="module")
def server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers with one connection each."""
    with databases.fresh() as settings:
        given = {
            "APP_DATABASE_URL": settings.database_url,
            "APP_DATABASE_MAX_CONNECTIONS": "1",
            "APP_DATABASE_MIN_CONNECTIONS": "0",
            "APP_DATABASE_ACQUIRE_TIMEOUT": "1",
            "APP_SERVER_WORKERS": "2",
        }
        folder = tmp_path_factory.mktemp("numbers")
        with serving(folder, **given, **tracing.variables()) as server:
            wait_until(lambda: workers(server) == {"0", "1"})
            yield server


def scraped(server: Server) -> dict[str, float]:
    answer = server.get("/metrics")
    assert answer.status == 200, server.text()[-6000:]
    return samples(answer.body.decode())


def of_workers(server: Server, name: str) -> dict[str, float]:
    """Return a gauge of each worker, by its slot."""
    begin = f'{name}{{worker="'
    return {
        series.removeprefix(begin).removesuffix('"}'): value
        for series, value in scraped(server).items()
        if series.startswith(begin)
    }


def workers(server: Server) -> set[str]:
    return set(of_workers(server, "worker_memory_bytes"))


def asking(server: Server, path: str, times: int) -> list[threading.Thread]:
    """Begin to ask so often at once."""
    threads = [threading.Thread(target=server.get, args=(path,)) for _ in range(times)]
    for thread in threads:
        thread.start()
    return threads


def grown(server: Server, before: dict[str, float], series: str) -> float:
    return scraped(server)[series] - before.get(series, 0)


def test_the_memory_of_each_worker_is_its_share(server: Server) -> None:
    shown = of_workers(server, "worker_memory_bytes")
    measured = [psutil.Process(pid).memory_full_info().pss for pid in server.workers()]
    # It is looked up every 15 seconds, and a young worker still grows.
    assert 0.4 < sum(shown.values()) / sum(measured) < 2


def test_what_the_database_takes_of_a_request_is_counted_by_route(server: Server) -> None:
    before = scraped(server)
    assert server.get("/database/0.3").status == 200
    assert server.get("/sleep/0.3").status == 200
    wait_until(lambda: grown(server, before, DATABASE.format("count")) == 1)
    # The server may begin to sleep a moment before this process begins to wait.
    assert 0.2 < grown(server, before, DATABASE.format("sum")) < 1
    # A request that asks no database isn't one that the database was quick with.
    assert not [series for series in scraped(server) if "database_s" in series and "/sl" in series]


def test_the_pool_shows_how_many_use_it_and_how_many_wait(server: Server) -> None:
    """Ten on two connections, each for 0.5 s: who waits for a second gets none."""
    assert of_workers(server, "database_pool_size") == {"0": 1, "1": 1}
    wait_until(lambda: sum(of_workers(server, "database_pool_in_use").values()) == 0)
    before = scraped(server)
    asked = asking(server, "/database/0.5", 10)
    wait_until(lambda: sum(of_workers(server, "database_pool_in_use").values()) == 2)
    wait_until(lambda: sum(of_workers(server, "database_pool_waiting").values()) >= 4)
    for thread in asked:
        thread.join()
    wait_until(lambda: sum(of_workers(server, "database_pool_waiting").values()) == 0)
    # A scrape asks the database, too, and waits like everybody. More than five on one worker, which
    # chance gives to it, wait unread at first.
    waits = ("database_pool_wait_seconds", "overload_wait_seconds")
    assert sum(grown(server, before, f"{name}_count") for name in waits) >= 8
    assert sum(grown(server, before, f"{name}_sum") for name in waits) >= 4
    assert grown(server, before, "database_pool_timeouts_total") >= 2


def test_a_loop_that_stands_still_is_late(server: Server) -> None:
    late = 'event_loop_lag_seconds_bucket{le="0.5"}'

    def above_half_a_second() -> float:
        now = scraped(server)
        return now["event_loop_lag_seconds_count"] - now[late]

    before = above_half_a_second()
    assert server.get("/block/1.5").status == 200
    wait_until(lambda: above_half_a_second() == before + 1)


def test_the_gauges_of_a_worker_end_with_it_and_its_counters_do_not(server: Server) -> None:
    def asked_for_who() -> float:
        return scraped(server).get('http_requests_total{method="GET",route="/who",status="200"}', 0)

    for _ in range(10):
        assert server.get("/who").status == 200
    wait_until(lambda: asked_for_who() == 10)
    before = server.workers()
    server.process.send_signal(signal.SIGTTOU)
    wait_until(lambda: len(workers(server)) == 1)
    assert len(server.workers()) == 1
    assert asked_for_who() == 10
    server.process.send_signal(signal.SIGTTIN)
    wait_until(lambda: workers(server) == {"0", "1"})
    killed = next(pid for pid in before if pid in server.workers())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in server.workers() and workers(server) == {"0", "1"})
    assert asked_for_who() == 10


def test_a_worker_that_was_killed_at_work_uses_no_connection_any_more(server: Server) -> None:
    wait_until(lambda: workers(server) == {"0", "1"})

    def ask_and_lose() -> None:
        with suppress(OSError):
            server.get("/database/5.0")

    def in_use() -> float:
        return sum(of_workers(server, "database_pool_in_use").values())

    asked = threading.Thread(target=ask_and_lose)
    asked.start()
    wait_until(lambda: in_use() == 1)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    asked.join()
    # Both of them new: for a tenth of a second the master may know of one death only.
    wait_until(lambda: len(server.workers()) == 2 and workers(server) == {"0", "1"})
    assert in_use() == 0
