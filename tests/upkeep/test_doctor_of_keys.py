"""The doctor finds what is wrong with clocks, keys and the mail server."""

import re
import secrets
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import time_machine

from app.platform import clock
from tests.mail.smtp_server import smtp_server
from tests.upkeep.installing import Find, Installation


def test_clocks_that_differ_are_a_problem(installed: Installation, find: Find) -> None:
    with time_machine.travel(clock.now() + timedelta(seconds=30)):
        (found,) = find(installed.settings)
    assert found.startswith("clock: PROBLEM: The clocks of this machine and of the database's serv")
    assert re.search(r"are (2[5-9]|30) s apart", found)


def test_a_rotation_that_nobody_does_is_warned_of(installed: Installation, find: Find) -> None:
    with time_machine.travel(clock.now() + timedelta(days=90, minutes=10)):
        assert not any(line.startswith("keys") for line in find(installed.settings))
    with time_machine.travel(clock.now() + timedelta(days=90, hours=2)):
        found = [line for line in find(installed.settings) if line.startswith("keys")]
    (late,) = found
    assert late.startswith("keys: warning: A signing key should have been created at 20")


def test_master_keys_that_do_not_open_the_signing_key_are_a_problem(
    installed: Installation, find: Find
) -> None:
    others = replace(installed.settings, auth_master_keys=((1, secrets.token_bytes(32)),))
    (found,) = find(others)
    assert found.startswith("keys: PROBLEM: APP_AUTH_MASTER_KEYS doesn't open the signing key")


def test_a_newer_master_key_that_is_not_the_first_one_is_warned_of(
    installed: Installation, find: Find
) -> None:
    ((_, key),) = installed.settings.auth_master_keys
    waiting = ((1, key), (2, secrets.token_bytes(32)))
    (found,) = find(replace(installed.settings, auth_master_keys=waiting))
    assert found.startswith("keys: warning: APP_AUTH_MASTER_KEYS knows master key 2, and key 1")


def test_the_mail_server_is_asked_and_gets_no_mail(
    installed: Installation, find: Find, tmp_path: Path
) -> None:
    with smtp_server(tmp_path) as server:
        reaching = replace(installed.settings, mail_url=server.url)
        assert find(reaching) == []
        server.mode("busy")
        (found,) = find(reaching)
        assert server.mails() == []
    assert found.startswith("mail: PROBLEM: The mail server of APP_MAIL_URL takes no mails from us")
    assert "greeting 421" in found
    (found,) = find(reaching)
    assert "ConnectionRefusedError" in found


def test_a_login_that_the_mail_server_refuses_is_a_problem(
    installed: Installation, find: Find, tmp_path: Path
) -> None:
    with smtp_server(tmp_path, login=("bursar", "right")) as server:
        (found,) = find(replace(installed.settings, mail_url=server.url.replace("right", "wrong")))
    assert "takes no mails from us: AUTH 535" in found
