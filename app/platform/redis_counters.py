"""Counts what is taken of limits in Redis or Valkey, for installations that have one.

Imported only where its URL is set: the client takes a third of a second and some megabytes.
"""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError
from redis.retry import Retry

from app.platform.counters import Count, StoreAway

# Sign-in waits for it: what hasn't answered by then counts as away.
PATIENCE_SECONDS = 0.5
PREFIX = b"bursar:limit:"

# One step, because Redis runs one script at a time. Its own clock ends a limit's time, and the key
# goes with it. Gives back when the amount is negative.
_SCRIPT = """
local amount, limit, life = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used, left = tonumber(redis.call('GET', KEYS[1]) or '0'), redis.call('PTTL', KEYS[1])
if amount < 0 then
    if used > 0 then redis.call('DECRBY', KEYS[1], math.min(used, -amount)) end
    return {1, left}
elseif left < 0 then
    redis.call('SET', KEYS[1], amount, 'PX', life)
    return {1, life}
elseif used + amount > limit then
    return {0, left}
end
redis.call('INCRBY', KEYS[1], amount)
if ARGV[4] == '1' then
    redis.call('PEXPIRE', KEYS[1], life)
    left = life
end
return {1, left}
"""
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


class RedisCounters:
    """Counts in Redis or Valkey; connects on first use, and so after the fork."""

    def __init__(self, url: str) -> None:
        """Take a URL: `redis`, `valkey`, with an `s` for TLS, or `unix`."""
        scheme, _, rest = url.partition("://")
        client = Redis.from_url(
            f"{_SCHEMES.get(scheme, scheme)}://{rest}",
            socket_connect_timeout=PATIENCE_SECONDS,
            socket_timeout=PATIENCE_SECONDS,
            # For connections that a restart of the server has closed, and not for waiting twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),
        )
        self._script: Any = client.register_script(_SCRIPT)

    def take(self, key: bytes, *, amount: int, limit: int, seconds: int, renews: bool) -> Count:
        """Take an amount if the limit has so much left.

        Raises StoreAway.
        """
        granted, left = self._run(key, amount, limit, seconds * 1000, int(renews))
        return Count(bool(granted), left / 1000)

    def give_back(self, key: bytes, *, amount: int) -> None:
        """Undo a take.

        Raises StoreAway.
        """
        self._run(key, -amount)

    def _run(self, key: bytes, *arguments: int) -> Any:
        try:
            return self._script(keys=[PREFIX + key.hex().encode()], args=arguments)
        except (RedisError, OSError) as fault:
            raise StoreAway from fault
