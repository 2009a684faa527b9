"""Makes the signals that ask a program to end interrupt its start, and be news later."""

import os
import select
import signal
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the program to end before it was up; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP of this process: each raises Interrupted until `defer` is called.

    There is one in a process, made by its main thread.
    """

    def __init__(self) -> None:
        self._raising = True
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(self._reader, False)
        # Every signal writes its number here, so one that comes between two waits isn't lost.
        signal.set_wakeup_fd(writer)
        # A child's end has to wake `wait` up, and only a signal with a handler does.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in STOPPING:
            # nohup and background jobs of a shell ignore some of them, and mean it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def defer(self) -> None:
        """Interrupt no more: from now on `wait` tells of signals."""
        self._raising = False

    def wait(self, seconds: float) -> bool:
        """Wait until a signal comes or a child ends, and tell whether a signal asked to stop."""
        select.select([self._reader], [], [], seconds)
        try:
            received = os.read(self._reader, 4096)
        except BlockingIOError:
            return False
        return any(number in STOPPING for number in received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._raising:
            # The way out, which stops what was started, isn't interrupted again.
            self._raising = False
            raise Interrupted(number)
