"""Who comes while there is no room waits for their turn, and not for long."""

import time

import gevent
import gevent.socket
import pytest
from flask import Flask

from app.platform import metrics, overload, unread
from app.platform.connections import Connection
from app.platform.overload import PAUSE_SECONDS, Room
from app.platform.settings import Settings
from app.users import passwords
from tests.scraped import samples

GET = b"GET /api/v1/users/me HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNUSUAL = GET[:-2] + b"X-Request-Id: mine\r\n\r\n"


class Visitor:
    """Somebody who notes what is said to them."""

    def __init__(self) -> None:
        self.heard: str | None = None

    def admit(self, data: bytes, *, waited: float = 0.0, in_vain: bool = False) -> None:
        assert 0 <= waited < 5
        self.heard = "in vain" if in_vain else "admitted"

    def refuse(self, answer: bytes, *, closes: bool) -> bool:
        assert answer.startswith(b"HTTP/1.1 503")
        self.heard = "refused"
        return True


@pytest.fixture(autouse=True)
def answers(settings: Settings) -> None:
    unread.configure(settings)


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is needed besides the database."""
    monkeypatch.setattr(overload, "_needs", {})


def crowd(room: Room, number: int, data: bytes = GET) -> list[Visitor]:
    visitors = [Visitor() for _ in range(number)]
    for visitor in visitors:
        room.keep(visitor, data)
    return visitors


def heard(visitors: list[Visitor]) -> list[str | None]:
    return [visitor.heard for visitor in visitors]


def test_who_waits_longest_is_let_in_first_and_no_more_than_there_is_room_for() -> None:
    places = iter([False, False, True, False, True])
    room = Room(lambda: next(places))
    visitors = crowd(room, 4)
    room.let_in()
    assert heard(visitors) == ["admitted", "admitted", None, None]
    room.let_in()
    assert heard(visitors) == ["admitted"] * 3 + [None]


def test_nobody_is_turned_away_before_the_pause_has_ended() -> None:
    room = Room(lambda: True)
    visitors = crowd(room, 3)
    assert room.turn_away() == 0
    time.sleep(PAUSE_SECONDS)
    late = crowd(room, 1)
    assert room.turn_away() == 3
    assert heard(visitors + late) == ["refused"] * 3 + [None]


def test_who_waits_for_what_never_comes_is_turned_away_in_the_end() -> None:
    """One pause is no crowd yet: so many as were let in before may wait at first."""
    room = Room(lambda: True, most=40)
    visitors = crowd(room, 8)
    begun = time.monotonic()
    while None in heard(visitors):
        room.turn_away()
        assert time.monotonic() - begun < 5
        time.sleep(0.01)
    assert time.monotonic() - begun > 2 * PAUSE_SECONDS


def test_many_who_are_let_in_quickly_are_no_crowd() -> None:
    """A hundred a second: forty may wait, and those who come then go in within 0.4 s."""
    places = [0]

    def is_full() -> bool:
        places[0] -= 1
        return places[0] < 0

    room = Room(is_full, most=40)
    visitors = crowd(room, 30)
    for _ in range(30):
        assert room.turn_away() == 0
        places[0] = 1
        room.let_in()
        # A machine that is busy takes longer, and then they are less.
        time.sleep(0.005)
    assert heard(visitors) == ["admitted"] * 30


def test_those_are_left_who_can_be_let_in_in_time() -> None:
    room = Room(lambda: True, most=20)
    visitors = crowd(room, 50)
    time.sleep(PAUSE_SECONDS)
    # Half of what was known before, because nobody was let in.
    assert room.turn_away() == 40
    assert heard(visitors) == ["refused"] * 40 + [None] * 10


def test_an_unusual_request_is_read_to_be_refused() -> None:
    room = Room(lambda: True)
    visitors = crowd(room, 2, UNUSUAL)
    time.sleep(PAUSE_SECONDS)
    assert room.turn_away() == 0
    assert heard(visitors) == ["in vain"] * 2


def test_the_metrics_show_how_many_wait_unread(
    needs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload, "_database", Room(lambda: True))
    crowd(overload._database, 3)
    metrics.sample()
    shown = [value for series, value in samples().items() if series.startswith("overload_waiting")]
    assert shown == [3]


def test_what_needs_more_than_the_database_is_refused_without_it(
    needs: None,
) -> None:
    full = [True]
    overload.also_wait_for("POST /hash", lambda: full[0])

    def refused(line: str) -> bool:
        server, client = gevent.socket.socketpair()
        with server, client:
            reading = gevent.spawn(Connection(server, keep_seconds=75).recv, 8192)
            client.sendall(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            reading.join(overload.PAUSE_SECONDS * 3)
            if reading.dead:
                return False
            reading.kill()
            assert client.recv(8192).startswith(b"HTTP/1.1 503")
            return True

    calls = ("POST /hash", "POST /hashes", "GET /hash", "POST /hash/x", "POST /")
    assert [refused(call) for call in calls] == [True, False, False, False, False]
    full[0] = False
    assert not refused("POST /hash")


def test_a_mistake_after_a_pause_ends_the_connection(
    needs: None,
) -> None:
    """Seen failing: nothing else would wake the greenlet, or count its wait."""
    full = iter([True])
    overload.also_wait_for("POST /hash", lambda: next(full))
    server, client = gevent.socket.socketpair()
    with server, client:
        client.sendall(b"POST /hash HTTP/1.1\r\nHost: a\r\n\r\n")
        reading = gevent.spawn(Connection(server, keep_seconds=75).recv, 8192)
        assert reading.get(timeout=5) == b""


def test_sign_ins_and_sign_ups_need_a_place_where_passwords_are_hashed(app: Flask) -> None:
    calls = {"POST /api/v1/auth/login", "POST /api/v1/users"}
    assert {call.decode().strip() for call in overload._needs} == calls
    assert calls <= {
        f"POST {rule.rule}" for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())
    }
    assert {room.is_full for room in overload._needs.values()} == {passwords.is_full}
