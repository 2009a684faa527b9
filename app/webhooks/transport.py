"""Posts one message to one endpoint, within seconds, to an address that was found good.

No redirect is followed: it would lead past the check of the address. Of the answer only the head is
read, and of that ANSWER_BYTES at most; its body says nothing that counts.
"""

import io
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple, cast

from app.platform import clock
from app.webhooks import destinations
from app.webhooks.destinations import Destination, Found, NoWay
from app.webhooks.values import ANSWER_BYTES, ASK_FOR_TIME, LONGEST_PAUSE, TRY_SECONDS, Failure

_SECONDS = re.compile(r"[0-9]+")


class Answer(NamedTuple):
    """What an endpoint says: its status, and how long it asks to wait, LONGEST_PAUSE at most."""

    status: int
    pause: timedelta


def post(url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
    """Send a message and return the answer, within TRY_SECONDS in all.

    Raises NoWay.
    """
    end = time.monotonic() + TRY_SECONDS
    destination = destinations.parts(url)
    found = destinations.look_up(destination, within=TRY_SECONDS)
    try:
        with closing(_connected(destination, found, end)) as connected:
            connection = HTTPConnection(destination.host, destination.port)
            connection.sock = cast("socket.socket", _Line(connected, end))
            connection.request(
                "POST",
                destination.target,
                body=body,
                headers={"Host": destination.authority, "Connection": "close", **headers},
            )
            answer = connection.getresponse()
            return Answer(answer.status, _pause(answer))
    except TimeoutError as fault:
        raise NoWay(Failure.TIMED_OUT) from fault
    except ssl.SSLError as fault:
        raise NoWay(Failure.TLS_FAILED) from fault
    except HTTPException as fault:
        raise NoWay(Failure.BAD_ANSWER) from fault
    except OSError as fault:
        raise NoWay(Failure.UNREACHABLE) from fault


def _pause(answer: HTTPResponse) -> timedelta:
    """Return what `Retry-After` asks for, in seconds or by a date (RFC 9110, 10.2.3)."""
    asked = answer.getheader("Retry-After", "").strip() if answer.status in ASK_FOR_TIME else ""
    if _SECONDS.fullmatch(asked):
        # A float, because Python refuses to make an integer of thousands of digits.
        seconds = float(asked)
        return timedelta(seconds=min(seconds, LONGEST_PAUSE.total_seconds()))
    try:
        date = parsedate_to_datetime(asked)
    except (ValueError, OverflowError):
        return timedelta()
    # Its oldest spelling names no zone, and means UTC.
    pause = date.replace(tzinfo=date.tzinfo or UTC) - clock.now()
    return min(max(pause, timedelta()), LONGEST_PAUSE)


def _connected(destination: Destination, found: Sequence[Found], end: float) -> socket.socket:
    """Return a connection to the first of the addresses that takes one, with TLS if asked for.

    Each has an equal share of the time that is left, so one that is silent doesn't cost it all.

    Raises OSError.
    """
    fault: OSError = TimeoutError()
    for number, (family, address) in enumerate(found):
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(_left(end) / (len(found) - number))
            plain.connect(address)
            if not destination.secure:
                return plain
            plain.settimeout(_left(end))
            # The certificate has to be good for the name, whichever address was connected to.
            return _tls().wrap_socket(plain, server_hostname=destination.host)
        except OSError as error:
            plain.close()
            fault = error
    raise fault


def _left(end: float) -> float:
    """Return how many seconds are left.

    Raises TimeoutError.
    """
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


@cache
def _tls() -> ssl.SSLContext:
    # Reading the authorities of the machine takes longer than a delivery.
    return ssl.create_default_context()


class _Line:
    """A connection with one deadline for all that goes over it: what HTTPConnection asks of one.

    The time-out of a socket is one of each read: an endpoint that sends a byte a second would hold
    it for ever.
    """

    def __init__(self, connected: socket.socket, end: float) -> None:
        """Take the connection and the moment of its end, in monotonic time."""
        self._socket = connected
        self._end = end

    def sendall(self, data: bytes) -> None:
        """Send all of it.

        Raises OSError.
        """
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(_left(self._end))
            rest = rest[self._socket.send(rest) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what the answer is read from."""
        return io.BufferedReader(_Answer(self._socket, self._end))

    def close(self) -> None:
        """Leave it to whoever has connected."""


class _Answer(io.RawIOBase):
    """What comes over a connection until its end, and no more than ANSWER_BYTES of it."""

    def __init__(self, connected: socket.socket, end: float) -> None:
        """Take the connection and the moment of its end, in monotonic time."""
        self._socket = connected
        self._end = end
        self._room = ANSWER_BYTES

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come; above the limit it is as if the endpoint had hung up.

        Raises OSError.
        """
        part = memoryview(buffer)[: self._room]
        if not part:
            return 0
        self._socket.settimeout(_left(self._end))
        number = self._socket.recv_into(part)
        self._room -= number
        return number
