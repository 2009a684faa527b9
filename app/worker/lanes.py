"""Delivers to webhooks until the stop: each has a lane of its own, and none waits for another.

Lanes have threads of their own, as many as all of them together ever need: whatever hangs takes
nothing away from jobs, nor from another webhook. What they do in the database, one thread does.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from app.platform.errors import Unavailable
from app.platform.logging import get_logger
from app.webhooks import delivery, intake
from app.webhooks.values import WEBHOOKS_MOST

T = TypeVar("T")
# Tries of one webhook at a time, in this process.
WIDTH: Final = 4
log = get_logger(__name__)


class Lanes:
    """The lanes of this process."""

    def __init__(self, stop: asyncio.Event, *, poll_seconds: float) -> None:
        """Take what ends it, and how soon a commit's event is found."""
        self._stop = stop
        self._poll_seconds = poll_seconds
        self._open: dict[UUID, asyncio.Task[None]] = {}
        self._store = ThreadPoolExecutor(1, "webhooks in the database")
        self._callers = ThreadPoolExecutor(WEBHOOKS_MOST * WIDTH, "webhook")

    async def go_on(self) -> None:
        """Turn events into deliveries and deliver them; at the stop, end what was begun."""
        while not self._stop.is_set():
            found = await self._look()
            for webhook_id in [each for each, lane in self._open.items() if lane.done()]:
                # A mistake of ours is raised here, as it is for the other loops of the worker.
                self._open.pop(webhook_id).result()
            if found < intake.BATCH:
                await self._pause()
        await asyncio.gather(*self._open.values())

    async def _look(self) -> int:
        """Take events in and open the lanes that are needed; return how many events there were."""
        try:
            found = await self._stored(intake.take_in)
            for webhook_id in await self._stored(delivery.waiting):
                if webhook_id not in self._open:
                    self._open[webhook_id] = asyncio.create_task(self._deliver(webhook_id))
        except Unavailable:
            return 0
        return found

    async def _deliver(self, webhook_id: UUID) -> None:
        """Deliver what is due for one webhook, until nothing is."""
        loop = asyncio.get_running_loop()
        try:
            while not self._stop.is_set():
                messages = await self._stored(partial(delivery.take, webhook_id, most=WIDTH))
                if not messages:
                    return
                outcomes = await asyncio.gather(
                    *(
                        loop.run_in_executor(self._callers, delivery.attempt, message)
                        for message in messages
                    )
                )
                tried = list(zip(messages, outcomes, strict=True))
                await self._stored(partial(delivery.note, tried))
        except Unavailable as fault:
            # What was taken is due again in half a minute, and maybe told twice.
            log.warning("webhook_lane_interrupted", webhook_id=str(webhook_id), exc_info=fault)

    async def _stored(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._store, work)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), self._poll_seconds)
        except TimeoutError:
            return
