"""The endpoint that README shows works as it is printed."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.platform.settings import PROJECT_ROOT
from app.webhooks.delivery import attempt, take
from app.webhooks.intake import take_in
from app.webhooks.values import Event
from tests.network import free_port
from tests.people import TestUser

README = (PROJECT_ROOT / "README.md").read_text()
ADDRESS = '("127.0.0.1", 8000)'


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def example(port: int, secret: str) -> Iterator[subprocess.Popen[str]]:
    """Run README's endpoint on another port."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert ADDRESS in code
    process = subprocess.Popen(
        [sys.executable, "-c", code.replace(ADDRESS, f'("127.0.0.1", {port})')],
        env=os.environ | {"WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            end = time.monotonic() + 10
            while not is_open(port):
                assert time.monotonic() < end
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def test_the_endpoint_of_the_readme_takes_each_message_once_and_no_forged_one(
    make_webhook: Callable[..., dict[str, Any]], make_user: Callable[..., TestUser]
) -> None:
    port = free_port()
    webhook = make_webhook(f"http://127.0.0.1:{port}/", "user.created")
    with example(port, webhook["secret"]) as process:
        users = [make_user() for _ in range(2)]
        take_in()
        messages = take(webhook["id"], most=2)
        for message in [messages[0], messages[0], messages[1]]:
            assert attempt(message).status == 204
        messages[0].headers["webhook-signature"] = messages[1].headers["webhook-signature"]
        assert attempt(messages[0]).status == 400
        process.kill()
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    assert sorted(lines) == sorted(f"user.created {user.id}" for user in users)


def test_the_readme_lists_every_event() -> None:
    (listed,) = re.findall(r"`events` are (.*?), or `\*`", README, re.DOTALL)
    found = [
        f"{subject}.{verb}"
        for subject, *verbs in (
            re.split(r"[.\s]+", part) for part in re.findall(r"`([^`]*)`", listed)
        )
        for verb in verbs
    ]
    assert found == [event.value for event in Event]
