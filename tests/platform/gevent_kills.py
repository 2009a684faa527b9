"""What becomes of connections whose greenlets are killed; see `gevent_programs`."""

import itertools
import random
from contextlib import suppress

import gevent
from gevent import GreenletExit
from gevent.event import Event
from sqlalchemy import text

from app.platform import db
from app.platform.turns import Turns
from tests.platform.gevent_worker import (
    SLEEP,
    assert_pool_is_whole,
    read,
    start,
    swallow,
    wait_until_running,
)


def a_killed_greenlet_leaves_the_pool_usable() -> None:
    settings = start(size=2)
    numbers = itertools.count()

    def change() -> None:
        with db.transaction() as session:
            session.execute(text("INSERT INTO things VALUES (:id)"), {"id": 100 + next(numbers)})
            session.execute(SLEEP, {"seconds": 30})

    def look() -> None:
        with db.reading() as connection:
            connection.execute(SLEEP, {"seconds": 30})

    def look_at_a_moment() -> None:
        with db.snapshot() as session:
            session.execute(SLEEP, {"seconds": 30})

    def look_at_the_first_row() -> None:
        # SQLAlchemy would make an error of its own out of it.
        with suppress(ValueError):
            db.first_row("SELECT pg_sleep(30)", {})

    for work in (change, look, look_at_a_moment, look_at_the_first_row):
        for how in (GreenletExit, gevent.Timeout(1), ValueError("from outside")):
            victims = [gevent.spawn(swallow, work) for _ in range(2)]
            wait_until_running(settings, "pg_sleep")
            for victim in victims:
                victim.kill(how, block=True, timeout=5)
            assert_pool_is_whole(2)
    assert read("SELECT count(*) FROM things WHERE id >= 100") == 0


def a_greenlet_killed_in_its_commit_leaves_the_pool_usable() -> None:
    settings = start(size=2)

    def change() -> None:
        # The table's deferred trigger sleeps during COMMIT.
        with db.transaction() as session:
            session.execute(text("INSERT INTO slow_to_commit VALUES (1)"))

    victim = gevent.spawn(swallow, change)
    wait_until_running(settings, "COMMIT")
    victim.kill(block=True, timeout=5)
    assert_pool_is_whole(2)


def a_greenlet_killed_while_it_waits_for_its_turn_takes_no_place_with_it() -> None:
    start(size=1)
    held, done = Event(), Event()

    def hold() -> None:
        with db.reading():
            held.set()
            done.wait()

    holder = gevent.spawn(hold)
    held.wait()
    waiting = [gevent.spawn(read, "SELECT 1") for _ in range(3)]
    gevent.sleep(0.05)
    waiting[0].kill(block=True)
    done.set()
    # This one has just been given the place, and has not run since.
    holder.join()
    waiting[1].kill(block=True)
    gevent.joinall([waiting[2]], timeout=5, raise_error=True)
    assert waiting[2].value == 1
    assert_pool_is_whole(1)


def a_greenlet_killed_just_as_its_turn_comes_passes_it_on() -> None:
    turns = Turns(1)
    assert turns.take(0)
    waiting = gevent.spawn(turns.take, 5)
    gevent.sleep(0.01)
    # The place is given before the kill strikes, and the one who got it has not run in between.
    gevent.get_hub().loop.run_callback(waiting.throw, GreenletExit)
    turns.give_back()
    waiting.join(5)
    assert turns.take(0)


def answers_never_reach_the_wrong_greenlet() -> None:
    start(size=4)
    wrong: list[tuple[int, int]] = []
    answered = []

    def ask(number: int) -> None:
        sent = {"n": number, "seconds": random.random() / 50}
        if number % 3 == 2:
            answer = db.first_row("SELECT %(n)s AS n FROM pg_sleep(%(seconds)s)", sent).n
        else:
            with db.transaction() if number % 3 else db.reading() as connection:
                answer = connection.scalar(text("SELECT :n FROM pg_sleep(:seconds)"), sent)
        answered.append(number)
        if answer != number:
            wrong.append((number, int(answer or 0)))

    asking = [gevent.spawn(swallow, lambda n=n: ask(n)) for n in range(300)]
    while not all(one.dead for one in asking):
        random.choice(asking).kill(block=False)
        gevent.sleep(0.01)
    assert wrong == []
    assert len(answered) > 50
    assert_pool_is_whole(4)
