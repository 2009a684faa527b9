"""Tells living processes from dead ones, and lets one end when the one that started it does."""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from signal import Signals

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1


def running_program(pid: int) -> str | None:
    """Return the name of the program that the process runs, or None when there is no such process.

    A zombie counts as gone. The system lists it until its parent asks for its end, which the first
    process of many containers never does.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): number, (name), state; the name may hold spaces and brackets.
    begin, _, rest = stat.rpartition(")")
    return None if rest.split()[0] in "ZX" else begin.partition("(")[2]


def end_with_parent(number: Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that makes the new program get the signal when this process ends.

    It does so after kill -9 too. Call it in the thread that starts the program: Linux watches that
    thread.
    """
    parent = os.getpid()
    request = _prctl()

    def prepare() -> None:
        request(number)
        # The parent may have died before the request was made.
        if os.getppid() != parent:
            os.kill(os.getpid(), number)

    return prepare


def follow_parent(number: Signals) -> None:
    """Make this process get the signal when its parent ends."""
    _prctl()(number)


def _prctl() -> Callable[[int], object]:
    """Return the system's request, loaded before any fork; it does nothing outside Linux."""
    if not sys.platform.startswith("linux"):
        return lambda number: None
    libc = ctypes.CDLL(None)
    return lambda number: libc.prctl(PR_SET_PDEATHSIG, int(number))
