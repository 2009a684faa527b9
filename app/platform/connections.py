"""Keeps room for newcomers among a worker's connections: who waits longest for their client ends.

That is what ends a flood of slow clients; the limits of time of each connection may be generous.
"""

from math import inf
from time import monotonic

from app.platform.connection import Connection

# So many connections are kept free for newcomers, as long as others only wait for their clients.
SPARE = 16


class Connections:
    """All connections of a worker."""

    def __init__(self, most: int) -> None:
        """Start with none; `most` is how many there can be."""
        self._most = most
        self._all: set[Connection] = set()

    def add(self, connection: Connection) -> None:
        """Take in a new one, and make room for more if need be."""
        # Before it is one of them: nobody makes room for themself.
        if len(self._all) >= self._most - SPARE:
            self._make_room()
        self._all.add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget one that has ended."""
        self._all.discard(connection)

    def end_overdue(self) -> None:
        """Hang up on all clients whose time is over, and on more while there is no room."""
        now = monotonic()
        for connection in [each for each in self._all if each.ends < now]:
            connection.ends = inf
            connection.hang_up()
        # When it became full nobody could make room, if all were being answered or refused.
        for _ in range(len(self._all) - (self._most - SPARE)):
            self._make_room()

    def waiting_since(self, moment: float) -> list[Connection]:
        """Return those that have waited for a request since `moment` or longer."""
        return [each for each in self._all if each.ends != inf and each.since <= moment]

    def _make_room(self) -> None:
        """Hang up on the client that keeps its connection waiting longest."""
        longest = min(self._all, key=lambda each: each.since, default=None)
        if longest is not None and longest.since != inf:
            longest.since = longest.ends = inf
            longest.hang_up()
