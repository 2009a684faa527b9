"""Lets coverage, where it is at work, follow the processes that some tests start.

Their start takes twice as long then, so only tests ask for it that show what no test shows within
its own process.
"""

from pathlib import Path

from coverage import Coverage


def variables() -> dict[str, str]:
    """Return the variables with which a Python program is followed; none where nothing is."""
    if Coverage.current() is None:
        return {}
    return {"COVERAGE_PROCESS_START": str(Path(__file__).with_name("traced.cfg"))}
