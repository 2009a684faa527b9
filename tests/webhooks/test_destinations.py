"""Webhooks lead to public machines only, and to the very address that was looked at."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from app.platform.errors import Invalid
from app.platform.settings import Settings
from app.webhooks import destinations, transport
from app.webhooks.destinations import NoWay, check, look_up, may_be_called, parts
from app.webhooks.values import Failure
from tests.network import free_port

PUBLIC = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946")
# What the setting opens.
OWN = (
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "::1", "fc00::1", "fd12:3456:789a::1",
)  # fmt: skip
# What nothing opens.
NEVER = (
    str(IPv4Address(0)), "0.1.2.3", "100.64.0.1", "169.254.169.254", "192.0.0.8", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:0:4136:e378::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::",
    "2002:808:808::1", "3fff::1", "5f00::1", "fe80::1", "fe80::1%1", "fec0::1", "ff02::1",
    "ff0e::1",
)  # fmt: skip
Answers = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _strict(settings: Settings) -> Iterator[None]:
    """The rules of production, then those of the tests again."""
    strict = replace(
        settings,
        env="production",
        webhooks_allow_private=False,
    )
    destinations.configure(strict)
    yield
    destinations.configure(settings)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A function that lets every name lead to these addresses, each look-up to the next ones.

    It returns the list of names that were looked up.
    """

    def lead(*answers: list[str] | float, port: int = 443) -> list[str]:
        asked: list[str] = []

        def find(host: str, _port: int, **_more: Any) -> list[Any]:
            answer = answers[min(len(asked), len(answers) - 1)]
            asked.append(host)
            if isinstance(answer, float):
                time.sleep(answer)
                return []
            if not answer:
                raise socket.gaierror
            kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in answer]
            return [
                (kind, socket.SOCK_STREAM, 6, "", (each, port))
                for kind, each in zip(kinds, answer, strict=True)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", find)
        return asked

    return lead


def failure(url: str) -> Failure:
    """Return why there is no way to an address."""
    with pytest.raises(NoWay) as caught:
        transport.post(url, headers={}, body=b"{}")
    return caught.value.failure


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert may_be_called(ip_address(address))


@pytest.mark.parametrize("address", [*OWN, *NEVER])
def test_no_other_address_is_called(address: str, names: Answers) -> None:
    assert not may_be_called(ip_address(address))
    names([address])
    assert failure("https://app.example.com/") == "address_refused"


@pytest.mark.parametrize("address", [*OWN, *NEVER])
def test_the_setting_opens_ones_own_networks_and_no_more(address: str, settings: Settings) -> None:
    destinations.configure(replace(settings, env="production", webhooks_allow_private=True))
    assert may_be_called(ip_address(address)) == (address in OWN)
    if "%" not in address:
        host = f"[{address}]" if ":" in address else address
        url = f"https://{host}/"
        if address in OWN:
            check(url)
        else:
            with pytest.raises(Invalid):
                check(url)


@pytest.mark.parametrize(
    "spelling", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost"]
)
def test_other_spellings_of_this_machine_lead_to_it_and_are_refused(spelling: str) -> None:
    check(f"https://{spelling}/")
    assert failure(f"https://{spelling}/") == "address_refused"


def test_a_name_is_looked_up_once_and_what_was_found_is_called(
    names: Answers, settings: Settings
) -> None:
    """The second time it would lead elsewhere: that is how rebinding gets past a check."""
    destinations.configure(replace(settings, webhooks_allow_private=True))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = names(["127.0.0.1"], ["169.254.169.254"], port=port)
        assert failure_within(f"http://rebinding.example.com:{port}/", 0.3) == "timed_out"
        assert asked == ["rebinding.example.com"]
        called, _ = server.accept()
        called.close()
        # The next try looks it up anew, and calls nobody.
        assert failure(f"http://rebinding.example.com:{port}/") == "address_refused"


def failure_within(url: str, seconds: float) -> Failure:
    """Return why there is no way, with less patience than usual."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "TRY_SECONDS", seconds)
        return failure(url)


def test_of_a_names_addresses_only_the_good_ones_are_called(names: Answers) -> None:
    names(["10.0.0.1", "93.184.216.34", "::1", "::ffff:10.0.0.1"])
    found = look_up(parts("https://app.example.com/"), within=1)
    assert [address for _, address in found] == [("93.184.216.34", 443)]


def test_a_name_that_leads_nowhere_or_is_none_is_told(names: Answers) -> None:
    names([])
    assert failure("https://nowhere.example.com/") == "name_unknown"


def test_a_name_server_that_does_not_answer_takes_no_more_than_the_time_of_a_try(
    names: Answers,
) -> None:
    names(2.0)
    begun = time.monotonic()
    assert failure_within("https://slow.example.com/", 0.2) == "timed_out"
    assert time.monotonic() - begun < 1


def test_the_first_address_that_is_silent_leaves_time_for_the_next(
    names: Answers, settings: Settings
) -> None:
    destinations.configure(replace(settings, webhooks_allow_private=True))
    port = free_port()
    with socket.create_server(("127.0.0.2", port)) as server:
        # Nobody listens at the first one.
        names(["127.0.0.1", "127.0.0.2"], port=port)
        assert failure_within(f"http://two.example.com:{port}/", 0.3) == "timed_out"
        called, _ = server.accept()
        called.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example.com/", "ftp://app.example.com/", "app.example.com", "https://",
        "https:///path", "https://:443/", "https://user@app.example.com/",
        "https://user:word@app.example.com/", "https://app.example.com/#part",
        "https://app.example.com:0/", "https://app.example.com:99999/",
        "https://app.example.com:port/", "https://[::1/", "https://[::1]/", "https://10.0.0.1/",
        "https://[::ffff:8.8.8.8]/", "https://app.example.com/ path", "https://app.example.com/\n",
        "https://app.example.com\\@10.0.0.1/", "https://bücher.example/", "https://a.example/ü",
        "javascript:alert(1)", "https://169.254.169.254/latest/meta-data",
    ],
)  # fmt: skip
def test_what_is_no_public_https_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(url)
    assert caught.value.details is not None
    assert list(caught.value.details) == ["url"]


def test_the_parts_of_an_address_are_what_is_called_and_asked_for() -> None:
    for url, asked in {
        "https://app.example.com": ("app.example.com", 443, "app.example.com", "/"),
        "https://App.Example.com:8443/a%20b?c=d&e": (
            "app.example.com", 8443, "App.Example.com:8443", "/a%20b?c=d&e",
        ),
        "https://[2606:2800:220:1::1]/": (
            "2606:2800:220:1::1", 443, "[2606:2800:220:1::1]", "/",
        ),
    }.items():  # fmt: skip
        check(url)
        found = parts(url)
        assert (found.host, found.port, found.authority, found.target) == asked
        assert found.secure


def test_plain_http_is_for_development_also_for_old_webhooks(
    names: Answers, settings: Settings
) -> None:
    names(["93.184.216.34"])
    assert failure("http://app.example.com/") == "address_refused"
    destinations.configure(replace(settings, env="development", webhooks_allow_private=True))
    check("http://127.0.0.1:9/")
    check("http://app.example.com/")
