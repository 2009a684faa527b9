"""Tells where a request comes from and whom it is meant for, as far as that can be trusted."""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def locate(environ: dict[str, Any], *, proxies: int) -> None:
    """Set `bursar.address`, REMOTE_ADDR and the scheme to what the trusted proxies vouch for.

    Each proxy appends the address it was called from, so the n-th entry from the right is what the
    outermost of n proxies saw; everything to its left is the client's own claim. The address is
    None on a Unix socket without proxies.
    """
    address = environ.get("REMOTE_ADDR") or None
    if proxies:
        hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        seen = _address(hops[-proxies]) if len(hops) >= proxies else None
        address = seen or address
        schemes = environ.get("HTTP_X_FORWARDED_PROTO", "").split(",")
        scheme = schemes[-min(proxies, len(schemes))].strip().lower()
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
    if address is not None:
        environ["REMOTE_ADDR"] = address
    environ["bursar.address"] = address


def host_check(trusted: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test for `Host` headers, with or without a port; `.acme.org` is every subdomain."""
    names = frozenset(name.lower() for name in trusted)
    suffixes = tuple(name for name in names if name.startswith("."))

    # A service has few names: each is looked at once.
    @lru_cache(maxsize=256)
    def is_trusted(host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower()
        return name in names or name.endswith(suffixes)

    return is_trusted


@lru_cache(maxsize=1024)
def _address(text: str) -> str | None:
    """Return an entry of X-Forwarded-For as a plain address, or None when it isn't one."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@lru_cache(maxsize=1024)
def network(address: str | None) -> str | None:
    """Return what counts as one origin: an IPv4 address, or the /64 of an IPv6 address.

    Everybody who has one IPv6 address has the 2^64 of its /64.
    """
    if address is None:
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
