"""Limits how often somebody may do something, over all workers and machines together.

What is taken counts before the work is done and may be given back afterwards, so that no number of
attempts at once gets past a limit.

Counters are stored under HMACs: no address or name stands in their table. While their store is
away each worker counts by itself, with the same limits; nobody is refused for that.
"""

import hmac
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, gcd
from typing import TypeAlias
from uuid import UUID

from app.platform import clock, metrics, origin
from app.platform.counters import MOST_REMEMBERED, Count, Memory, Postgres, Store, StoreAway
from app.platform.errors import AppError, TooManyRequests
from app.platform.logging import get_logger
from app.platform.settings import Settings

log = get_logger(__name__)
_refusals = metrics.counter("rate_limit_refusals_total", "Requests that met a limit.", limit=())
_faults = metrics.counter(
    "rate_limit_storage_faults_total",
    "Times that the store of the limits' counters could not be asked.",
)

# Whom or what a limit counts, by the texts of its parts.
Subject: TypeAlias = tuple[object, ...]

# After a fault of the store nobody waits for it again for so long.
REST_SECONDS = 5.0
MINUTE = 60
# A worker takes up to so much of a user's minute at once: most requests then ask no store.
LARGEST_SHARE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """So much in so many seconds for each subject.

    The time begins with what is taken first. In a limit that `renews`, it begins anew with
    everything that is taken, and so no interval of that length has more.
    """

    name: str
    amount: int
    seconds: int
    renews: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Something that was taken, for who may give it back."""

    store: Store
    key: bytes
    ends_at: float


@dataclass(slots=True)
class _Share:
    """What this worker has of a subject's limit until its time ends: nothing, once refused."""

    left: int
    ends_at: float


def configure(settings: Settings, *, key: bytes) -> None:
    """Count as the settings say from now on, under HMACs with the key."""
    global _limiter
    _limiter = Limiter(settings, key) if settings.rate_limit_enabled else None


def take(limit: Limit, *subject: object) -> Taken | None:
    """Count one more for the subject; None where nothing is limited.

    Raises TooManyRequests.
    """
    return None if _limiter is None else _limiter.take(limit, subject)


def take_all(wanted: Iterable[tuple[Limit, Subject]]) -> Sequence[Taken]:
    """Count one more in each of these, in this order, or in none of them.

    Raises TooManyRequests.
    """
    taken: list[Taken] = []
    try:
        for limit, subject in wanted:
            one = take(limit, *subject)
            if one is not None:
                taken.append(one)
    except TooManyRequests:
        give_back(taken)
        raise
    return taken


def give_back(taken: Iterable[Taken]) -> None:
    """Undo what was taken, unless its time is over."""
    if _limiter is not None:
        for one in taken:
            _limiter.give_back(one)


@contextmanager
def counted(
    wanted: Iterable[tuple[Limit, Subject]], *, kept: tuple[type[AppError], ...]
) -> Iterator[None]:
    """Count what is done in the block, in each of these limits, before it is done.

    All is given back when the block succeeds or is refused, unless by one of the errors that are
    `kept`. What breaks off in any other way stays counted: nobody knows how far it got.

    Raises TooManyRequests and what the block raises.
    """
    taken = take_all(wanted)
    try:
        yield
    except AppError as refusal:
        if not isinstance(refusal, kept):
            give_back(taken)
        raise
    give_back(taken)


def spend_of_user(user_id: UUID | None) -> None:
    """Count a request of somebody signed in, or of an API key, which has its own id and limit.

    Raises TooManyRequests.
    """
    if _limiter is not None:
        _limiter.spend(_limiter.per_user, (user_id,))


def take_of_address(address: str | None, *, of_file: bool = False) -> None:
    """Count a request of nobody in particular; one without a network address can't be counted.

    Those `of_file` count by themselves, many at once. Raises TooManyRequests.
    """
    network = origin.network(address)
    if _limiter is None or network is None:
        return
    if of_file:
        _limiter.spend(_limiter.files_per_address, (network,))
    else:
        _limiter.take(_limiter.per_address, (network,), remembers=True)


class Limiter:
    """Counts in the shared store, or in this process while that is away."""

    def __init__(self, settings: Settings, key: bytes) -> None:
        """Take which store, and the limits of all requests."""
        self.per_user = Limit(
            name="user", amount=settings.rate_limit_user_per_minute, seconds=MINUTE
        )
        self.per_address = Limit(
            name="anonymous", amount=settings.rate_limit_anonymous_per_minute, seconds=MINUTE
        )
        self.files_per_address = replace(self.per_address, name="files")
        self._key = key
        self._shared = _store(settings.rate_limit_storage_url)
        self._own = Memory()
        self._away, self._rests_until = False, 0.0
        self._shares: dict[Subject, _Share] = {}
        self._one_at_a_time = threading.Lock()

    def take(self, limit: Limit, subject: Subject, *, remembers: bool = False) -> Taken:
        """Count one more for the subject.

        A refusal that this worker `remembers` asks no store again until the limit's time ends,
        whatever is given back meanwhile.

        Raises TooManyRequests.
        """
        named, began = (limit.name, *subject), clock.time()
        known = self._share(named) if remembers else None
        if known is not None:
            _refuse(limit, known.ends_at - began)
        key = self._key_of(named)
        count, store = self._count(limit, key, 1)
        if not count.granted:
            if remembers:
                self._add(named, _Share(0, began + count.left))
            _refuse(limit, count.left)
        return Taken(store, key, began + count.left)

    def spend(self, limit: Limit, subject: Subject) -> None:
        """Count one more in this worker's share, and get it a new share when it has none.

        All shares of a time together are never more than the limit. What other workers have left
        of theirs isn't spent.

        Raises TooManyRequests.
        """
        named, began = (limit.name, *subject), clock.time()
        with self._one_at_a_time:
            share = self._share(named)
            if share is not None and share.left > 0:
                share.left -= 1
                if share.left == 0:
                    del self._shares[named]
                return
        if share is not None:
            _refuse(limit, share.ends_at - began)
        size = gcd(limit.amount, LARGEST_SHARE)
        count, _ = self._count(limit, self._key_of(named), size)
        if not count.granted:
            self._add(named, _Share(0, began + count.left))
            _refuse(limit, count.left)
        if size > 1:
            self._add(named, _Share(size - 1, began + count.left))

    def give_back(self, taken: Taken) -> None:
        """Undo a take where it was counted, unless its time is over."""
        if taken.ends_at <= clock.time():
            return
        try:
            taken.store.give_back(taken.key, amount=1)
        except StoreAway as away:
            self._rest(away)

    def _count(self, limit: Limit, key: bytes, amount: int) -> tuple[Count, Store]:
        """Take from the shared store, or else from this process's own, and tell which it was."""
        now = clock.time()
        # The clock may have been set back: nobody waits longer than the rest.
        if not 0 < self._rests_until - now <= REST_SECONDS:
            if self._away:
                # One request tries whether it is back, and the others don't wait with it.
                self._rests_until = now + REST_SECONDS
            try:
                count = _take(self._shared, limit, key, amount)
            except StoreAway as away:
                self._rest(away)
            else:
                if self._away:
                    self._away, self._rests_until = False, 0.0
                    log.info("rate_limit_storage_back")
                return count, self._shared
        return _take(self._own, limit, key, amount), self._own

    def _rest(self, away: StoreAway) -> None:
        """Leave the shared store alone for a while; the log says so once an outage."""
        _faults.of().inc()
        if not self._away:
            fault = away.__cause__
            # By its kind alone: the driver's words name addresses, and maybe the whole URL.
            kind = type(getattr(fault, "__cause__", None) or fault).__name__
            log.warning("rate_limit_storage_away", fault=kind)
        self._away, self._rests_until = True, clock.time() + REST_SECONDS

    def _share(self, named: Subject) -> _Share | None:
        """Return what this worker knows of a subject, as long as its time lasts."""
        share = self._shares.get(named)
        return share if share is not None and share.ends_at > clock.time() else None

    def _add(self, named: Subject, share: _Share) -> None:
        """Remember a share, together with what another request has got at the same time."""
        with self._one_at_a_time:
            known = self._share(named)
            share.left += known.left if known is not None else 0
            # To the end of the dict, which keeps the order of insertion: the oldest go first.
            self._shares.pop(named, None)
            while len(self._shares) >= MOST_REMEMBERED:
                del self._shares[next(iter(self._shares))]
            self._shares[named] = share

    def _key_of(self, named: Subject) -> bytes:
        return hmac.digest(self._key, "\0".join(map(str, named)).encode(), "sha256")


_limiter: Limiter | None = None


def _store(url: str | None) -> Store:
    if url is None:
        return Postgres()
    from app.platform.redis_counters import RedisCounters

    return RedisCounters(url)


def _take(store: Store, limit: Limit, key: bytes, amount: int) -> Count:
    return store.take(
        key, amount=amount, limit=limit.amount, seconds=limit.seconds, renews=limit.renews
    )


def _refuse(limit: Limit, left: float) -> None:
    """Raise TooManyRequests."""
    _refusals.of(limit.name).inc()
    raise TooManyRequests(limit=limit.amount, seconds=max(ceil(left), 1))
