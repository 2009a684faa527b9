"""Who comes while there is no room waits for their turn, and not for long."""

import time

import gevent
import gevent.socket
import pytest
from flask import Flask

from app.platform import metrics, overload, unread
from app.platform.connection import Connection
from app.platform.overload import PAUSE_SECONDS, Room
from app.platform.settings import Settings
from app.users import passwords
from tests.scraped import samples

GET = b"GET /api/v1/users/me HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNUSUAL = GET[:-2] + b"Accept: application/problem+json\r\n\r\n"


class Visitor:
    """Somebody who notes what is said to them."""

    def __init__(self, unread: bytes) -> None:
        self.unread = unread
        self.heard: str | None = None

    def admit(self, *, waited: float = 0.0, in_vain: bool = False) -> None:
        assert 0 <= waited < 5
        self.heard = "in vain" if in_vain else "admitted"

    def refuse(self, answer: bytes, *, closes: bool) -> bool:
        assert answer.startswith(b"HTTP/1.1 503")
        self.heard = "refused and closed" if closes else "refused"
        return True

    def end(self) -> None:
        self.heard = "ended"


@pytest.fixture(autouse=True)
def answers(settings: Settings) -> None:
    unread.configure(settings)


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is needed besides the database."""
    monkeypatch.setattr(overload, "_needs", {})


def crowd(room: Room, number: int, data: bytes = GET) -> list[Visitor]:
    visitors = [Visitor(data) for _ in range(number)]
    for visitor in visitors:
        room.keep(visitor)
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


def test_how_many_may_wait_follows_from_how_fast_they_are_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two hundred a second, so eighty within 0.4 s; half of each measurement is the one before."""
    now = [100.0]
    monkeypatch.setattr(overload, "monotonic", lambda: now[0])
    full = [True]
    room = Room(lambda: full[0], most=400)
    visitors = crowd(room, 300)
    for tick in range(100):
        now[0] += 0.01
        full[0] = tick % 2 == 0
        places = iter([False] * 4 + [True])
        room.is_full = lambda places=places: full[0] or next(places)
        room.let_in()
        crowd(room, 4)
        room.turn_away()
    assert room._most == pytest.approx(80, rel=0.1)
    assert room.is_crowded() == (len(room.kept) > 80)
    assert heard(visitors).count("refused") > 0


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


def test_few_are_let_in_at_a_time_if_they_take_no_place_at_once() -> None:
    room = Room(lambda: False)
    visitors = crowd(room, overload.LET_IN_AT_ONCE + 1)
    room.let_in()
    assert heard(visitors) == ["admitted"] * overload.LET_IN_AT_ONCE + [None]


def test_few_are_read_at_a_time_to_be_refused() -> None:
    room = Room(lambda: True)
    visitors = crowd(room, overload.READ_AT_ONCE + 1, UNUSUAL)
    time.sleep(PAUSE_SECONDS)
    room.turn_away()
    assert heard(visitors) == ["in vain"] * overload.READ_AT_ONCE + [None]


def test_nobody_waits_for_long_however_many_may(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(lambda: True, most=1e9)
    visitors = crowd(room, 2)
    now = time.monotonic()
    monkeypatch.setattr(overload, "monotonic", lambda: now + overload.MOST_SECONDS - 0.1)
    assert room.turn_away() == 0
    monkeypatch.setattr(overload, "monotonic", lambda: now + overload.MOST_SECONDS)
    assert room.turn_away() == 2
    assert heard(visitors) == ["refused"] * 2


def test_while_nobody_waits_nothing_is_measured() -> None:
    room = Room(lambda: True, most=40)
    time.sleep(overload.WINDOW_SECONDS)
    room.turn_away()
    assert room._most == 40


def test_a_pace_lets_in_so_many_in_each_tick() -> None:
    pace = overload.Pace(3)
    assert [pace() for _ in range(4)] == [False, False, False, True]
    time.sleep(overload.TICK_SECONDS)
    assert not pace()


def test_while_the_service_stops_a_refusal_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overload, "_stops", False)
    room = Room(lambda: True)
    visitors = crowd(room, 1)
    overload.stop()
    time.sleep(PAUSE_SECONDS)
    assert room.turn_away() == 1
    assert heard(visitors) == ["refused and closed"]


@pytest.mark.parametrize(
    ("beginning", "waits"),
    [
        (b"GET /health HTTP/1.1", False),
        (b"HEAD /ready HTTP/1.1", False),
        (b"GET /metrics?x HTTP/1.1", False),
        (b"GET /healthz HTTP/1.1", False),
        (b"GET /healthy HTTP/1.1", True),
        (b"POST /health HTTP/1.1", True),
        (b"G", True),
        (b"", True),
    ],
)
def test_only_probes_wait_for_nothing(
    needs: None, monkeypatch: pytest.MonkeyPatch, beginning: bytes, waits: bool
) -> None:
    monkeypatch.setattr(overload, "_database", Room(lambda: True))
    assert overload.keep_waiting(Visitor(beginning), beginning) == waits


def test_a_newcomer_overtakes_nobody(needs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [True]
    room = Room(lambda: full[0])
    overload.also_wait_for(room, "POST /hash ")
    monkeypatch.setattr(overload, "_database", Room(lambda: full[0]))
    for beginning in (b"POST /hash ", b"GET / "):
        full[0] = True
        assert overload.keep_waiting(Visitor(GET), beginning)
        full[0] = False
        assert overload.keep_waiting(Visitor(GET), beginning)


def test_what_was_looked_at_is_forgotten_once_nobody_waits(
    needs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload, "_database", Room(lambda: True))
    visitor = Visitor(GET)
    assert overload.keep_waiting(visitor, GET)
    unread.look_at(GET)
    assert unread._remembered.cache_info().currsize > 0
    gevent.sleep(PAUSE_SECONDS + 5 * overload.TICK_SECONDS)
    assert visitor.heard == "refused"
    assert unread._remembered.cache_info().currsize == 0


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
    overload.also_wait_for(Room(lambda: full[0]), "POST /hash ")

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
    overload.also_wait_for(Room(lambda: next(full)), "POST /hash ")
    server, client = gevent.socket.socketpair()
    with server, client:
        client.sendall(b"POST /hash HTTP/1.1\r\nHost: a\r\n\r\n")
        reading = gevent.spawn(Connection(server, keep_seconds=75).recv, 8192)
        assert reading.get(timeout=5) == b""


def test_sign_ins_and_sign_ups_wait_where_passwords_are_hashed(app: Flask) -> None:
    calls = {"POST /api/v1/auth/login", "POST /api/v1/users"}
    rooms = {each.decode(): room for each, room in overload._needs.items()}
    assert {
        each.strip() for each, room in rooms.items() if room.is_full is passwords.is_full
    } == calls
    assert calls <= {
        f"POST {rule.rule}" for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())
    }
    # In one line, or the ones would always go before the others.
    assert len({id(rooms[f"{call} "]) for call in calls}) == 1
    assert rooms.keys() - {f"{call} " for call in calls} == {"GET /docs/"}
