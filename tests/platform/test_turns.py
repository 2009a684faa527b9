"""Places are given strictly in the order in which they were asked for."""

import threading
import time

from app.platform.turns import ENOUGH, Turns, going_first


def waiting_in_order(turns: Turns, count: int) -> tuple[list[int], list[threading.Thread]]:
    """Let threads ask one after the other, and note in which order they are served."""
    served: list[int] = []

    def ask(number: int) -> None:
        assert turns.take(5)
        served.append(number)

    threads = []
    for number in range(count):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        while len(turns._queue) <= number:
            time.sleep(0.001)
    return served, threads


def test_whoever_waits_longest_is_next() -> None:
    turns = Turns(1)
    assert turns.take(0)
    served, threads = waiting_in_order(turns, 5)
    for number, thread in enumerate(threads):
        turns.give_back()
        thread.join(5)
        assert served == list(range(number + 1))


def test_nobody_slips_in_between_a_return_and_the_first_in_the_queue() -> None:
    turns = Turns(1)
    assert turns.take(0)
    served, threads = waiting_in_order(turns, 1)
    turns.give_back()
    # The one in the queue may not have run yet, and the place is already its own.
    assert not turns.take(0)
    threads[0].join(5)
    assert served == [0]


def test_whoever_gives_up_leaves_the_queue() -> None:
    turns = Turns(2)
    assert turns.take(0)
    assert turns.take(0)
    begin = time.monotonic()
    assert not turns.take(0.05)
    assert time.monotonic() - begin < 2
    turns.give_back()
    assert turns.take(0)
    assert not turns.take(0)


def test_they_are_full_once_enough_wait() -> None:
    turns = Turns(1)
    assert turns.take(0)
    _, threads = waiting_in_order(turns, ENOUGH)
    for thread in threads:
        assert turns.are_full() == (thread is threads[0])
        turns.give_back()
        thread.join(5)


def test_a_probe_goes_before_all_who_wait() -> None:
    turns = Turns(1)
    assert turns.take(0)
    served, threads = waiting_in_order(turns, 2)

    def probe() -> None:
        with going_first():
            assert turns.take(5)
        served.append(99)

    threads.append(threading.Thread(target=probe))
    threads[-1].start()
    while len(turns._queue) < 3:
        time.sleep(0.001)
    for thread in (threads[2], threads[0], threads[1]):
        turns.give_back()
        thread.join(5)
    assert served == [99, 0, 1]
