"""Stands between service and PostgreSQL: hangs, resets, and loses what is said about a COMMIT.

A process of its own, told what to do by lines on its standard input, each answered by one line:
`hold` and `go`, `reset`, `lose answers N`, `lose questions N`, `lost`. It ends with its input.
"""

import asyncio
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMIT = b"COMMIT\0"
# Closing sends a reset, and what is still to be sent is thrown away.
AT_ONCE = struct.pack("ii", 1, 0)
LARGEST_LINE = 1 << 12


class Proxy:
    """The running process, as seen from outside."""

    def __init__(self, port: int, target: Path) -> None:
        """Start it; connections to the port are connections to the Unix socket from then on."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy", str(port), str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def tell(self, order: str) -> int:
        """Give an order and return the number it is answered with."""
        self._input.write(f"{order}\n")
        self._input.flush()
        return int(self._read())

    def end(self) -> None:
        """End the process and wait for it."""
        self._process.communicate(timeout=10)

    @property
    def _input(self) -> Any:
        return self._process.stdin

    def _read(self) -> str:
        if self._process.stdout is None or not (line := self._process.stdout.readline()):
            raise RuntimeError("the proxy has ended")
        return line


class Wires:
    """All connections, and what is done to them."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.every: set[Wire] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.to_lose = {"answers": 0, "questions": 0}
        self.lost = 0

    def obey(self, order: str) -> int:
        """Do what a line says, and return how many it concerns."""
        words = order.split()
        concerned = len(self.every)
        if words == ["hold"]:
            self.flowing.clear()
            for wire in self.every:
                wire.pause()
        elif words == ["go"]:
            self.flowing.set()
            for wire in self.every:
                wire.resume()
        elif words == ["reset"]:
            for wire in tuple(self.every):
                wire.cut()
        elif words == ["lost"]:
            concerned, self.lost = self.lost, 0
            self.to_lose = dict.fromkeys(self.to_lose, 0)
        else:
            _, what, number = words
            self.to_lose[what] += int(number)
        return concerned

    def loses(self, what: str) -> bool:
        """Tell whether this one is to be lost, and count it."""
        if not self.to_lose[what]:
            return False
        self.to_lose[what] -= 1
        self.lost += 1
        return True


class Wire:
    """One connection: what comes on one side goes out on the other."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        self.client, self.server = End(self), End(self)
        self.swallows = False
        wires.every.add(self)

    async def lead_on(self) -> None:
        """Connect to PostgreSQL, once the network flows; a refusal is a reset."""
        await self.wires.flowing.wait()
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: self.server, self.wires.target)
        except OSError:
            self.cut()
        else:
            self.resume()

    def carry(self, end: "End", data: bytes) -> None:
        """Hand on what came, or lose it."""
        if end is self.server:
            if self.swallows:
                self.cut()
                return
            self.client.send(data)
            return
        if data.endswith(COMMIT) and self.wires.loses("questions"):
            self.cut()
            return
        self.swallows = data.endswith(COMMIT) and self.wires.loses("answers")
        self.server.send(data)

    def pause(self) -> None:
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.pause_reading()

    def resume(self) -> None:
        """Read on both sides, unless there is only one yet or the network hangs."""
        if self.server.transport is not None and self.wires.flowing.is_set():
            self.client.resume()
            self.server.resume()

    def cut(self) -> None:
        """End both sides by a reset, without a word."""
        self.wires.every.discard(self)
        for end in (self.client, self.server):
            if end.transport is not None and not end.transport.is_closing():
                place = end.transport.get_extra_info("socket")
                if place.family != socket.AF_UNIX:
                    place.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                end.transport.abort()

    def close(self) -> None:
        """End both sides, after what is still to be sent."""
        self.wires.every.discard(self)
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.close()


class End(asyncio.Protocol):
    """One side of a connection."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self is self.wire.client:
            transport.pause_reading()
            self.leading = asyncio.ensure_future(self.wire.lead_on())
        elif self.wire not in self.wire.wires.every:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self.wire.carry(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.wire.close()

    def send(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def resume(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


async def serve(port: int, target: str) -> None:
    """Carry connections and obey orders until the input ends."""
    loop, wires = asyncio.get_running_loop(), Wires(target)
    orders = asyncio.StreamReader(limit=LARGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    server = await loop.create_server(lambda: Wire(wires).client, "127.0.0.1", port, backlog=256)
    print(0, flush=True)
    async with server:
        while line := await orders.readline():
            print(wires.obey(line.decode()), flush=True)
        for wire in tuple(wires.every):
            wire.cut()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
