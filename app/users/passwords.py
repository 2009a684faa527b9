"""Hashes and checks passwords, off the event loop, and refuses those that anyone would guess.

argon2id with the parameters of the settings (OWASP ASVS 5.0, 6.2 and 11.4). No function here may be
called inside a transaction: a hash takes tens of milliseconds.
"""

import re
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from time import monotonic
from typing import TypeVar

from gevent import monkey
from gevent.threadpool import ThreadPool
from passlib.context import CryptContext

from app.platform import metrics
from app.platform.errors import Overloaded
from app.platform.settings import Settings
from app.users.errors import WeakPassword
from app.users.values import PASSWORD_MIN

T = TypeVar("T")

# What the limits on guessing at one user leave to somebody patient in about ten days.
GUESSES = 10_000
# The estimator tries every reading of p@$$w0rd. A password of this length that is made for it takes
# the hashing thread 0.16 s; with the 72 characters that it accepts it would be 2 s, 120 times a
# minute from one address.
LONGEST_ESTIMATED = 20

# A person still waits for so long; beyond that, people press the button again, and the queue only
# grows. It holds as many as are hashed within that time, within these bounds.
LONGEST_WAIT_SECONDS = 2.0
SHORTEST_QUEUE, LONGEST_QUEUE = 20, 64

_context: CryptContext
_dummy_hash: str
_thread: ThreadPool | None = None
_queued = 0
_has_place: ContextVar[bool] = ContextVar("has_place", default=False)
metrics.gauge(
    "password_hashes_queued",
    "Requests that make a password's hash or wait for it.",
    lambda: _queued,
)
# How long a hash takes, with what competes for the CPU; each one corrects it by an eighth.
_seconds = 0.03


def configure(settings: Settings) -> None:
    """Hash with the settings' parameters from now on.

    Also makes the hash that passwords of unknown addresses are checked against. It must have the
    live parameters: a literal one would answer sooner or later than a real one, and so tell who
    has an account.
    """
    global _context, _dummy_hash
    _context = hashing(
        memory_kib=settings.auth_argon2_memory_kib,
        time_cost=settings.auth_argon2_time_cost,
        parallelism=settings.auth_argon2_parallelism,
    )
    _dummy_hash = _context.hash(secrets.token_urlsafe(32))


def hashing(*, memory_kib: int, time_cost: int, parallelism: int) -> CryptContext:
    """Return what hashes and checks passwords with these parameters."""
    return CryptContext(
        schemes=["argon2"],
        argon2__type="ID",
        argon2__memory_cost=memory_kib,
        argon2__time_cost=time_cost,
        argon2__parallelism=parallelism,
    )


def normalised(password: str) -> str:
    """Return the password in NFKC, so that every keyboard gives the same bytes (RFC 8265)."""
    return unicodedata.normalize("NFKC", password)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a normalised password.

    Raises Overloaded.
    """
    return _off_the_loop(lambda: str(_context.hash(password)))


def hash_new_password(password: str, *, email: str, name: str) -> str:
    """Return the hash of a normalised password that its owner may choose.

    Raises WeakPassword or Overloaded.
    """

    def check_and_hash() -> str | None:
        # Reading the lists takes longer than a hash, so it happens on the thread too. A refusal
        # is raised outside: the event loop would report it as an error that nobody caught.
        if is_guessable(password, email=email, name=name):
            return None
        return str(_context.hash(password))

    hashed = _off_the_loop(check_and_hash)
    if hashed is None:
        raise WeakPassword
    return hashed


def is_full() -> bool:
    """Tell whether nobody else can wait for a hash."""
    return _queued >= min(max(LONGEST_WAIT_SECONDS / _seconds, SHORTEST_QUEUE), LONGEST_QUEUE)


@contextmanager
def place() -> Iterator[None]:
    """Hold a place in the queue while the block runs, for the hashes that are made within.

    So who finds none is refused before any work was done, and whoever found one isn't refused
    later: ten times as many sign-ins as can be hashed would else leave a third of the good ones,
    for the rest do their work in the database only to be refused then. Where there is no event
    loop, nobody waits for a hash.

    Raises Overloaded.
    """
    global _queued
    if _has_place.get():
        yield
        return
    if is_full():
        raise Overloaded
    if not monkey.is_module_patched("threading"):
        yield
        return
    _queued += 1
    held = _has_place.set(True)
    try:
        yield
    finally:
        _has_place.reset(held)
        _queued -= 1


def verify(password: str, password_hash: str | None) -> bool:
    """Tell whether a normalised password belongs to the hash.

    Without a hash, because nobody has that address, the same work is done for nothing.

    Raises Overloaded.
    """
    matches = _off_the_loop(lambda: bool(_context.verify(password, password_hash or _dummy_hash)))
    return matches and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Tell whether the hash was made with other parameters than those of the settings."""
    return bool(_context.needs_update(password_hash))


def is_guessable(password: str, *, email: str, name: str) -> bool:
    """Tell whether a password is common, easily made from a common one, or its owner's own.

    It is in the list of common ones, it is the owner's address or name, or it is no longer than
    LONGEST_ESTIMATED, without the spaces at its ends, and zxcvbn's estimator finds it within
    GUESSES: sequences, repetitions, a common word with a digit.
    """
    from zxcvbn import zxcvbn

    folded = password.casefold()
    own = {normalised(text).casefold() for text in (email, email.partition("@")[0], name)}
    own |= {re.sub(r"[\W_]", "", text) for text in own}
    if folded in _common_passwords() or folded in own:
        return True
    # Spaces alone are as good as one.
    stripped = password.strip() or " "
    if len(stripped) > LONGEST_ESTIMATED:
        return False
    estimate = zxcvbn(stripped, user_inputs=sorted(own))
    return bool(estimate["guesses"] < GUESSES)


@cache
def _common_passwords() -> frozenset[str]:
    # Twelve megabytes that a worker whose users only sign in never needs.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(
        word for words in FREQUENCY_LISTS.values() for word in words if len(word) >= PASSWORD_MIN
    )


def _off_the_loop(work: Callable[[], T]) -> T:
    """Run `work` on this worker's hashing thread, or at once where there is no event loop."""
    global _thread
    if not monkey.is_module_patched("threading"):
        return work()
    with place():
        if _thread is None:
            # On first use and so after the fork, which a thread of the parent doesn't survive.
            _thread = ThreadPool(1)
        return _thread.apply(partial(_timed, work))


def _timed(work: Callable[[], T]) -> T:
    global _seconds
    begun = monotonic()
    try:
        return work()
    finally:
        _seconds += (monotonic() - begun - _seconds) / 8
