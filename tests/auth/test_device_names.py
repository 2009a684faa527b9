"""What a user agent is called, so that people know their devices in the list."""

import time

import pytest

from app.auth.device_names import in_words
from app.auth.values import DEVICE_MAX

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
IPAD = "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"

NAMES = {
    f"{WINDOWS[:-1]}; rv:133.0) Gecko/20100101 Firefox/133.0": "Firefox on Windows",
    f"{WINDOWS} {BLINK}": "Chrome on Windows",
    f"{WINDOWS} {BLINK} Edg/131.0.0.0": "Edge on Windows",
    f"{WINDOWS} {BLINK} OPR/116.0.0.0": "Opera on Windows",
    f"{WINDOWS} {BLINK} Vivaldi/7.0": "Vivaldi on Windows",
    f"{WINDOWS} {BLINK} YaBrowser/24.10 Yowser/2.5": "Yandex Browser on Windows",
    f"{IPHONE} (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1": "Safari on iPhone",
    f"{IPHONE} (KHTML, like Gecko) FxiOS/133.0 Mobile/15E148 Safari/605.1": "Firefox on iPhone",
    f"{IPHONE} (KHTML, like Gecko) EdgiOS/131.0 Mobile/15E148 Safari/605.1": "Edge on iPhone",
    f"{IPHONE} (KHTML, like Gecko) Mobile/15E148": "iPhone",
    f"{IPAD} (KHTML, like Gecko) CriOS/131.0 Mobile/15E148 Safari/604.1": "Chrome on iPad",
    f"{MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1": "Safari on Mac",
    f"{MAC} AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1 Ddg/18.1": (
        "DuckDuckGo on Mac"
    ),
    f"{ANDROID} Chrome/131.0.0.0 Mobile Safari/537.36": "Chrome on Android",
    f"{ANDROID} SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36": (
        "Samsung Internet on Android"
    ),
    f"{ANDROID} Chrome/131.0.0.0 Mobile Safari/537.36 EdgA/131.0.0.0": "Edge on Android",
    "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0": "Firefox on Android",
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {BLINK}": "Chrome on ChromeOS",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0": (
        "Firefox on Linux"
    ),
    "curl/8.5.0": "curl",
    "python-requests/2.32.3": "python-requests",
    "okhttp/4.12.0": "okhttp",
    "Dart/3.4 (dart:io)": "Dart",
    "node": "node",
    "Acme/3.2 (iPhone; iOS 18.1; Scale/3.00)": "Acme on iPhone",
    "Acme/3.2 CFNetwork/1494.0.7 Darwin/23.4.0": "Acme",
    "Mozilla/5.0": None,
    "Mozilla/5.0 (compatible; SomeBot/2.1; +https://bot.example)": None,
    "(Nothing": None,
    "x" * DEVICE_MAX: None,
}


@pytest.mark.parametrize("user_agent", NAMES)
def test_a_device_is_called_what_people_call_it(user_agent: str) -> None:
    assert in_words(user_agent) == NAMES[user_agent]


def test_nothing_is_said_of_a_device_that_said_nothing() -> None:
    assert in_words(None) is None


def test_no_user_agent_takes_long() -> None:
    """Anybody chooses their own; a page of a list has a hundred of them."""
    begun = time.perf_counter()
    for part in ("Mozilla/", "a", "a ", "/", "Edg", " on iPhone", "!" * 50 + " "):
        for _ in range(100):
            in_words((part * DEVICE_MAX)[:DEVICE_MAX])
    assert time.perf_counter() - begun < 1
