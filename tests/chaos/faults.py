"""What goes wrong: each fault is a function that does it, lets it pass, and says what it was."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.stage import Postgres, Stage

SHORTEST_REST, LONGEST_REST = 0.5, 3.0
PATIENCE_SECONDS = 30.0
# PostgreSQL needs some room to say that there is none.
LEFT_ON_DISK = 64 * 1024
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE usename = 'bursar_app' ORDER BY pid"


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One fault: what, when, and from when on PostgreSQL was there again, if it had gone."""

    what: str
    begun: float
    ended: float
    ready: float | None


def happen(stage: Stage, seed: int) -> Iterator[Happened]:
    """Make one fault after the other, for ever: all of them in an order by dice, then again."""
    dice = random.Random(seed)
    while True:
        for fault in dice.sample(FAULTS, len(FAULTS)):
            time.sleep(dice.uniform(SHORTEST_REST, LONGEST_REST))
            before = stage.postgres.pid(), stage.postgres.starts()
            begun = time.monotonic()
            what = fault(stage, dice)
            ended = time.monotonic()
            stage.keep_worker()
            stage.postgres.wait_until_it_answers()
            gone = before != (stage.postgres.pid(), stage.postgres.starts())
            ready = stage.postgres.ready_at() if gone else None
            yield Happened(what=what, begun=begun, ended=ended, ready=ready)


def kill_workers(stage: Stage, dice: random.Random) -> str:
    """Kill one of the web server's workers, or all of them."""
    number = dice.choice((1, 1, 2))
    for pid in dice.sample(stage.server.workers(), number):
        os.kill(pid, signal.SIGKILL)
    return f"kill -9 of {number} of the web server's workers"


def stop_worker(stage: Stage, dice: random.Random) -> str:
    """Freeze a worker in the middle of what it does."""
    pid, seconds = stage.pick_worker(dice), dice.uniform(1, 4)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)
    return f"a worker of the web server stopped for {seconds:.1f} s"


def reload(stage: Stage, dice: random.Random) -> str:
    """Let the web server replace all workers."""
    stage.server.process.send_signal(signal.SIGHUP)
    return "HUP: the web server replaces its workers"


def kill_job_worker(stage: Stage, dice: random.Random) -> str:
    """Kill `flask worker`."""
    stage.worker.process.kill()
    stage.worker.process.wait()
    return "kill -9 of flask worker"


def terminate_backends(stage: Stage, dice: random.Random) -> str:
    """End some of the service's connections in the server."""
    pids = [pid for (pid,) in stage.postgres.ask(BACKENDS)]
    chosen = dice.sample(pids, dice.randint(1, len(pids))) if pids else []
    for pid in chosen:
        stage.postgres.ask("SELECT pg_terminate_backend(%s)", pid)
    return f"pg_terminate_backend of {len(chosen)} of {len(pids)} connections"


def crash_backend(stage: Stage, dice: random.Random) -> str:
    """Kill one process of PostgreSQL, which then throws away all of its memory and recovers."""
    pids = [pid for (pid,) in stage.postgres.ask(BACKENDS)]
    if not pids:
        return "no connection to kill"
    starts = stage.postgres.starts()
    os.kill(dice.choice(pids), signal.SIGKILL)
    _wait_for(lambda: stage.postgres.starts() > starts)
    return "kill -9 of one process of PostgreSQL, which recovers"


def kill_postgres(stage: Stage, dice: random.Random) -> str:
    """Kill PostgreSQL's first process, and start it again."""
    os.kill(stage.postgres.pid(), signal.SIGKILL)
    _wait_for(lambda: not stage.postgres.is_running)
    away = dice.uniform(0, 3)
    time.sleep(away)
    stage.postgres.start_again()
    return f"kill -9 of PostgreSQL, started again {away:.1f} s later"


def hang(stage: Stage, dice: random.Random) -> str:
    """Let nothing through between service and PostgreSQL for a while."""
    seconds = dice.uniform(1, 5)
    stage.proxy.tell("hold")
    time.sleep(seconds)
    stage.proxy.tell("go")
    return f"the network hangs for {seconds:.1f} s"


def reset(stage: Stage, dice: random.Random) -> str:
    """Reset all connections between service and PostgreSQL, some times."""
    times = dice.randint(1, 4)
    number = 0
    for _ in range(times):
        number += stage.proxy.tell("reset")
        time.sleep(dice.uniform(0, 0.3))
    return f"{number} connections reset"


def lose_answers(stage: Stage, dice: random.Random) -> str:
    """Lose what PostgreSQL says to COMMIT, which has happened."""
    return f"the answer to {_lose(stage, dice, 'answers')} COMMITs lost"


def lose_questions(stage: Stage, dice: random.Random) -> str:
    """Lose COMMIT itself, which then doesn't happen."""
    return f"{_lose(stage, dice, 'questions')} COMMITs lost before PostgreSQL has seen them"


def fill_disk(stage: Stage, dice: random.Random) -> str:
    """Leave PostgreSQL no room on its disk for a while."""
    if stage.disk is None:
        return "disk: not tried, since mounting a small one needs root"
    seconds = dice.uniform(1.5, 4)
    filler = stage.disk / "filler"
    _fill(filler)
    time.sleep(seconds)
    filler.unlink()
    died = _ends_soon(stage.postgres)
    if died:
        stage.postgres.start_again()
    end = "PostgreSQL gave up and was started again" if died else "PostgreSQL lived on"
    return f"disk full for {seconds:.1f} s: {end}"


FAULTS: tuple[Callable[[Stage, random.Random], str], ...] = (
    kill_workers,
    stop_worker,
    reload,
    kill_job_worker,
    terminate_backends,
    crash_backend,
    kill_postgres,
    hang,
    reset,
    lose_answers,
    lose_questions,
    fill_disk,
)


def _lose(stage: Stage, dice: random.Random, what: str) -> int:
    """Lose this of some COMMITs, and return how many it was before the rest was called off."""
    stage.proxy.tell(f"lose {what} {dice.randint(1, 20)}")
    time.sleep(1)
    return stage.proxy.tell("lost")


def _fill(filler: Path) -> None:
    with filler.open("wb") as file:
        end, piece = 0, 16 * 2**20
        # In pieces, for one that is too large is undone; and PostgreSQL takes some of it meanwhile.
        while piece >= LEFT_ON_DISK:
            try:
                os.posix_fallocate(file.fileno(), end, piece)
                end += piece
            except OSError:
                piece //= 2


def _ends_soon(postgres: Postgres) -> bool:
    """Tell whether a server that has met a full disk ends; what it does then takes a moment."""
    time.sleep(0.5)
    return not postgres.is_running


def _wait_for(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        if time.monotonic() > end:
            raise RuntimeError("a fault had no effect")
        time.sleep(0.01)
