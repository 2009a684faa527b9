"""Stops a function of the product as it begins, so that a test can do something meanwhile."""

import threading
from typing import Any

import pytest


def pause(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> tuple[threading.Event, threading.Event]:
    """Have a function stop as it begins; return what tells that it has, and what lets it go on."""
    reached, go_on = threading.Event(), threading.Event()
    function = getattr(owner, name)

    def paused(*arguments: Any, **options: Any) -> Any:
        reached.set()
        assert go_on.wait(10)
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, paused)
    return reached, go_on
