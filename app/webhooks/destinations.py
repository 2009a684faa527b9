"""Where webhooks may lead: which addresses are well formed, and which machines may be called.

An app's administrator chooses the address, and the service would call it from within the network
that it protects. So a name is looked up here, once, and what was found good is what is called.
"""

import queue
import socket
import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from app.platform.errors import Invalid
from app.platform.settings import Settings
from app.webhooks.values import Failure

# The addresses of the internet. What else there is of IPv6 leads to machines of the network itself,
# or is IPv4 in disguise: mapped, compatible, translated (NAT64).
_INTERNET: Final = ip_network("2000::/3")
# What is no machine of the internet, though `is_global` of some version of Python says so: numbers
# that are kept for protocols and for books, and IPv4 in other disguises: the relays of 6to4,
# Teredo (within 2001::/23), 6to4.
_KEPT: Final = tuple(
    ip_network(each)
    for each in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")
)
# What APP_WEBHOOKS_ALLOW_PRIVATE opens: this machine, and the networks that people number
# themselves. Never 169.254.0.0/16, where clouds tell a machine its own credentials.
_OWN: Final = tuple(
    ip_network(each)
    for each in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
    )
)  # fmt: skip

# What `getaddrinfo` gives: the family, and what `connect` takes.
Found = tuple[socket.AddressFamily, Any]


class NoWay(Exception):
    """There is no way to an endpoint; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        """Take the reason."""
        super().__init__(failure.value)
        self.failure = failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The parts of an address: what is connected to, and what is asked for there."""

    secure: bool
    host: str
    port: int
    authority: str
    target: str


_allow_private = False
_allow_plain = False


def configure(settings: Settings) -> None:
    """Let webhooks lead where the settings say from now on."""
    global _allow_private, _allow_plain
    _allow_private = settings.webhooks_allow_private
    _allow_plain = not settings.is_production


def check(url: str) -> None:
    """Make sure that an address can be that of a webhook, without looking its name up.

    Raises Invalid.
    """
    problem = _problem(url)
    if problem is not None:
        raise Invalid(details={"url": [problem]})


def parts(url: str) -> Destination:
    """Return the parts of an address that `check` has let pass.

    Raises ValueError.
    """
    split = urlsplit(url)
    secure = split.scheme == "https"
    return Destination(
        secure=secure,
        host=split.hostname or "",
        port=split.port or (443 if secure else 80),
        authority=split.netloc,
        target=(split.path or "/") + (f"?{split.query}" if split.query else ""),
    )


def look_up(destination: Destination, *, within: float) -> list[Found]:
    """Return the addresses of a destination that may be called, in the resolver's order.

    It takes `within` seconds at most. Names that lead to some others as well are no reason to
    refuse the good ones: only these are called.

    Raises NoWay.
    """
    # As the settings are now, and not as they were when the webhook was made.
    if not (destination.secure or _allow_plain):
        raise NoWay(Failure.ADDRESS_REFUSED)
    answers: queue.SimpleQueue[list[Found] | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answers.put(None)
        else:
            answers.put([(family, address) for family, *_, address in found])

    # The resolver takes no limit of time, and a name server may not answer for half a minute.
    threading.Thread(target=ask, name="webhook name", daemon=True).start()
    try:
        found = answers.get(timeout=max(within, 0))
    except queue.Empty:
        raise NoWay(Failure.TIMED_OUT) from None
    if not found:
        raise NoWay(Failure.NAME_UNKNOWN)
    good = [each for each in found if may_be_called(ip_address(each[1][0]))]
    if not good:
        raise NoWay(Failure.ADDRESS_REFUSED)
    return good


def may_be_called(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether a machine may be called: it is on the internet, or the settings allow it."""
    if _allow_private and any(address in network for network in _OWN):
        return True
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv6Address) and address not in _INTERNET:
        return False
    return not any(address in network for network in _KEPT)


def _problem(url: str) -> str | None:
    """Say what is wrong with an address, or nothing."""
    # A URL is made of these; others have more than one reading.
    if any(not "!" <= character <= "~" or character in '\\"<>^`{|}' for character in url):
        return "Must be a URL in ASCII; write others in Punycode and %-encoded."
    try:
        split = urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:
        return "Must be a URL."
    if split.scheme != "https" and not (_allow_plain and split.scheme == "http"):
        return "Must begin with https://."
    if not host or port == 0:
        return "Must name a host."
    if split.username is not None or split.password is not None or split.fragment:
        return "Must have neither a user, nor a password, nor a fragment."
    return _refused_literal(split)


def _refused_literal(split: SplitResult) -> str | None:
    try:
        address = ip_address(split.hostname or "")
    except ValueError:
        return None  # A name: where it leads is looked up before each try.
    return None if may_be_called(address) else "Must be a public address."
