"""Checks around the fork; the whole start is tested in tests/server/."""

import gc
from contextlib import closing
from types import SimpleNamespace

import psycopg2
import pytest

from app.platform import startup
from app.platform.settings import Settings
from tests.database import variables


def test_a_connection_that_is_open_before_the_fork_is_refused(settings: Settings) -> None:
    url = variables(settings)["APP_DATABASE_URL"].replace("+psycopg2", "")
    worker, other = SimpleNamespace(), SimpleNamespace(slot=0)
    # It looks only once, before memory is made fit; the tests have made theirs fit.
    gc.unfreeze()
    try:
        with (
            closing(psycopg2.connect(url)),
            pytest.raises(RuntimeError, match="open before the fork"),
        ):
            startup.before_fork(worker, [other])
    finally:
        gc.freeze()
    assert worker.slot == 1
