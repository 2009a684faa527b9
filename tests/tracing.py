"""What coverage follows where it is at work: not every test, and some processes.

Their start takes twice as long then, so only tests ask for it that show what no test shows within
its own process.
"""

from pathlib import Path

import pytest
from coverage import Coverage

# For tests that go through the whole application again and again: following them takes as long as
# they do, and shows no line that another test doesn't show.
unfollowed = pytest.mark.no_cover


def variables() -> dict[str, str]:
    """Return the variables with which a Python program is followed; none where nothing is."""
    if Coverage.current() is None:
        return {}
    return {"COVERAGE_PROCESS_START": str(Path(__file__).with_name("traced.cfg"))}
