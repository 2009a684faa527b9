"""Says in words what a device is, by its user agent, so that people know theirs again.

Not by the library ua-parser, which tells thousands of robots and phones apart: the first answer
would take a worker an eighth of a second and 10 MB, and a user agent written for that purpose up to
60 ms of its one thread. Browsers have long stopped adding words, and programs begin with their own.
"""

import re

from app.auth.values import DEVICE_MAX

# What stands further up sends the words of those below it as well.
_BROWSERS = (
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Ddg/", "DuckDuckGo"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
# The first product of RFC 9110, 10.1.5, without its version.
_PROGRAM = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,50}(?=[/ ]|$)")


def shortened(user_agent: str | None) -> str | None:
    """Return what is kept of a user agent, to tell a device by; None when nothing is left."""
    printable = "".join(character for character in user_agent or "" if character.isprintable())
    return printable.strip()[:DEVICE_MAX] or None


def in_words(user_agent: str | None) -> str | None:
    """Return "Firefox on Windows", "Safari on iPhone", "curl"; None when nothing can be said."""
    if user_agent is None:
        return None
    what = _first(_BROWSERS, user_agent)
    # Every browser begins with this name, and a program with its own.
    program = _PROGRAM.match(user_agent)
    if program and program[0] != "Mozilla":
        what = program[0]
    where = _first(_SYSTEMS, user_agent)
    return f"{what} on {where}" if what and where else what or where


def _first(words: tuple[tuple[str, str], ...], user_agent: str) -> str | None:
    return next((name for word, name in words if word in user_agent), None)
