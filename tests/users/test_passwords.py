"""What counts as guessable, and how hashes are made and checked."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from flask import Flask

from app.platform.settings import Settings
from app.users import passwords
from tests import tracing


@pytest.mark.parametrize(
    "password",
    [
        "password123",
        "PassWord123",
        "12345678",
        "qwertyuiop",
        "elephant",
        "Elizabeth",
        # In no list, and the first that anybody's program makes out of one.
        "987654321",
        "00000000",
        "123123123",
        "12341234",
        "abcdefgh",
        "p@ssword",
        "Qwerty12345",
        "test1234",
        # Spaces at the ends make it neither another one nor too long to look at.
        "password ",
        " test1234 ",
        "password" + " " * 120,
        " " * 8,
        " " * 128,
    ],
)
def test_common_passwords_and_single_words_are_guessable(password: str) -> None:
    assert passwords.is_guessable(password, email="ada@example.com", name="Ada")


@pytest.mark.parametrize(
    "password",
    [
        "Ada.Lovelace@example.com",
        "adalovelaceexamplecom",
        "ada.lovelace",
        "AdaLovelace",
        "COUNTESS OF LOVELACE",
        "countessoflovelace",
    ],
)
def test_ones_own_address_or_name_is_guessable(password: str) -> None:
    assert passwords.is_guessable(
        password, email="ada.lovelace@example.com", name="Countess of Lovelace"
    )


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "x" * 128,
        "пароль-1815",
        "lovelace-1843-notes",
        "secret-password",
        "Test1234!",
        "goodpassword",
    ],
)
def test_other_passwords_are_not_guessable_however_long(password: str) -> None:
    assert not passwords.is_guessable(password, email="ada@example.com", name="Ada")


def test_passwords_are_hashed_with_the_parameters_of_the_settings(
    app: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_before = passwords.hash_password("correct horse")
    assert made_before.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    monkeypatch.setattr(passwords, "_context", None)
    monkeypatch.setattr(passwords, "_dummy_hash", None)
    passwords.configure(replace(settings, auth_argon2_memory_kib=128, auth_argon2_time_cost=2))
    assert passwords.is_outdated(made_before)
    assert passwords.verify("correct horse", made_before)
    made_now = passwords.hash_password("correct horse")
    assert made_now.startswith("$argon2id$v=19$m=128,t=2,p=1$")
    assert not passwords.is_outdated(made_now)
    assert passwords._dummy_hash.startswith("$argon2id$v=19$m=128,t=2,p=1$")


def test_nobody_has_the_password_of_the_dummy_hash(app: Flask) -> None:
    assert not passwords.verify("correct horse", None)
    assert not passwords.verify("", None)


IN_A_WORKER = """
from gevent import monkey
monkey.patch_all()
import time, gevent
from app.platform.errors import Overloaded
from app.platform.settings import load_settings
from app.users import passwords
passwords.configure(load_settings())
# However slow this machine is just now, the queue is as long as it may be.
passwords.LONGEST_WAIT_SECONDS = 60
gaps, last = [], time.perf_counter()
def beat():
    global last
    while True:
        gevent.sleep(0.001)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
heart = gevent.spawn(beat)
def ask():
    try:
        return passwords.hash_new_password("correct horse 1", email="a@example.com", name="A")[:9]
    except Overloaded:
        return "overloaded"
answers = [one.get() for one in [gevent.spawn(ask) for _ in range(passwords.LONGEST_QUEUE + 6)]]
heart.kill()
print(answers.count("$argon2id"), answers.count("overloaded"), max(gaps) < 0.25)
looked_up = []
def sign_in():
    try:
        with passwords.place():
            looked_up.append(True)
            gevent.sleep(0.05)
            passwords.verify("wrong", None)
    except Overloaded:
        return "overloaded"
answers = [one.get() for one in [gevent.spawn(sign_in) for _ in range(passwords.LONGEST_QUEUE + 6)]]
print(len(looked_up), answers.count("overloaded"))
print(passwords._queued, passwords.verify("wrong", None))
"""


def test_in_a_worker_hashing_leaves_the_loop_alone_and_a_long_queue_is_refused(
    settings: Settings,
) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error::gevent.monkey.MonkeyPatchWarning", "-c", IN_A_WORKER],
        env=os.environ
        | {
            "APP_ENV": "test",
            "APP_DATA_DIR": str(settings.data_dir),
            "APP_DATABASE_URL": settings.database_url,
            "APP_AUTH_ARGON2_MEMORY_KIB": "8192",
        }
        | tracing.variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.split() == ["64", "6", "True", "64", "6", "0", "False"], ran.stderr


@pytest.mark.parametrize(
    ("seconds", "longest"), [(0.01, 64), (0.05, 40), (1.0, 20)], ids=["fast", "slow", "slowest"]
)
def test_the_queue_is_as_long_as_hashes_are_made_within_two_seconds(
    monkeypatch: pytest.MonkeyPatch, seconds: float, longest: int
) -> None:
    monkeypatch.setattr(passwords, "_seconds", seconds)
    for queued, full in ((longest - 1, False), (longest, True)):
        monkeypatch.setattr(passwords, "_queued", queued)
        assert passwords.is_full() is full
