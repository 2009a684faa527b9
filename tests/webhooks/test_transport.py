"""A try takes a few seconds at most, whatever the endpoint does, and follows it nowhere."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from time import asctime, gmtime
from typing import Any
from urllib.parse import quote

import pytest
import time_machine

from app.webhooks import transport
from app.webhooks.destinations import NoWay
from app.webhooks.values import Failure
from tests.mail import certificates
from tests.network import free_port
from tests.webhooks.listening import Receiver

BODY = b'{"type":"order.paid"}'
NOON, DAY = 1_796_040_000, 86_400


@pytest.fixture(autouse=True)
def _rules(app: object) -> None:
    """Those of the tests: what listens on this machine may be called."""


def post(url: str) -> int | Failure:
    """Return the status of the answer, or why there was none."""
    try:
        return transport.post(url, headers={"webhook-id": "1"}, body=BODY).status
    except NoWay as fault:
        return fault.failure


@pytest.mark.parametrize("status", [200, 204, 302, 404, 410, 429, 500, 503])
def test_the_answers_status_is_what_counts(receiver: Receiver, status: int) -> None:
    assert post(receiver.url(f"status/{status}")) == status


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        (formatdate(NOON + 3600, usegmt=True), 3600),
        (formatdate(NOON - 3600, usegmt=True), 0),
        ("120  ", 120),
        ("1796040000", DAY),
        ("9" * 5000, DAY),
        (formatdate(NOON + 2 * DAY, usegmt=True), DAY),
        ("-1", 0),
        ("soon", 0),
        ("Mon, 99 Foo 2026 00:00:00 GMT", 0),
        ("Mon, 05 Jan 99999 10:00:00 GMT", 0),
        ("Mon, 05 Jan 2026 10:00:00 +99999999999999999999", 0),
        # As C writes it; it is in GMT (RFC 9110, 5.6.7).
        (asctime(gmtime(NOON + 3600)), 3600),
        ("", 0),
    ],
)
def test_an_endpoint_says_when_to_come_again(
    receiver: Receiver, status: int, said: str, seconds: int
) -> None:
    with time_machine.travel(NOON, tick=False):
        url = receiver.url(f"later/{status}/{quote(said)}")
        answer = transport.post(url, headers={}, body=BODY)
    assert answer == (status, timedelta(seconds=seconds))


@pytest.mark.parametrize("status", [200, 301, 410, 500])
def test_of_other_answers_it_means_something_else(receiver: Receiver, status: int) -> None:
    answer = transport.post(receiver.url(f"later/{status}/120"), headers={}, body=BODY)
    assert answer == (status, timedelta())


def test_no_redirect_is_followed(receiver: Receiver) -> None:
    before = len(receiver.got())
    assert post(receiver.url("redirect")) == 307
    time.sleep(0.1)
    assert [got.path for got in receiver.got()[before:]] == ["/redirect"]


def test_of_a_mebibyte_of_body_nothing_is_read(receiver: Receiver) -> None:
    begun = time.monotonic()
    assert post(receiver.url("body")) == 200
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("path", ["head", "garbage", "nothing"])
def test_what_is_no_short_answer_in_http_is_none(receiver: Receiver, path: str) -> None:
    assert post(receiver.url(path)) == Failure.BAD_ANSWER


@pytest.mark.parametrize("path", ["hang", "drip"])
def test_an_endpoint_that_hangs_or_drips_is_left(
    receiver: Receiver, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen failing for the one that drips, with the time-out of a socket in place of the end."""
    monkeypatch.setattr(transport, "TRY_SECONDS", 0.5)
    begun = time.monotonic()
    assert post(receiver.url(path)) == Failure.TIMED_OUT
    assert 0.4 < time.monotonic() - begun < 2


def test_an_endpoint_that_takes_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TRY_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(NoWay) as caught:
            transport.post(url, headers={}, body=b"x" * (32 << 20))
    assert caught.value.failure == Failure.TIMED_OUT


def test_where_nobody_listens_nobody_is_reached() -> None:
    assert post(f"http://127.0.0.1:{free_port()}/") == Failure.UNREACHABLE


def test_a_line_break_in_a_header_is_never_sent(receiver: Receiver) -> None:
    before = len(receiver.got())
    with pytest.raises(ValueError, match="Invalid header value"):
        transport.post(receiver.url("status/200"), headers={"X": "a\r\nY: b"}, body=b"")
    assert receiver.got()[before:] == []


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[Any]]]:
    """The port of a server with a certificate for app.example.com, and what it was asked for.

    Every name leads to it, and its authority is one that this machine trusts.
    """
    certificates.make(tmp_path, names=("app.example.com",))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    transport._tls.cache_clear()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    asked: list[Any] = []
    context.sni_callback = lambda _line, name, _context: asked.append(name)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_given, **_more: here)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = server.accept()
                    with line, suppress(OSError), context.wrap_socket(line, True) as secure:
                        got = b""
                        while not got.endswith(BODY):
                            got += secure.recv(65_536)
                        asked.append(got.partition(b"\r\n\r\n")[0])
                        secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield port, asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    transport._tls.cache_clear()


def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(
    secured: tuple[int, list[Any]],
) -> None:
    port, asked = secured
    assert post(f"https://app.example.com:{port}/hook?a=b") == 204
    name, head = asked
    assert name == "app.example.com"
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /hook?a=b HTTP/1.1"
    assert f"Host: app.example.com:{port}".encode() in lines
    assert post(f"https://other.example.com:{port}/") == Failure.TLS_FAILED
    # Nothing was said to it.
    assert asked[2:] == ["other.example.com"]


def test_a_certificate_of_an_unknown_authority_is_refused(
    secured: tuple[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = secured
    monkeypatch.delenv("SSL_CERT_FILE")
    transport._tls.cache_clear()
    assert post(f"https://app.example.com:{port}/") == Failure.TLS_FAILED


def test_a_server_without_tls_is_no_secure_one(receiver: Receiver) -> None:
    url = receiver.url("status/200").replace("http://", "https://")
    assert post(url) in (Failure.TLS_FAILED, Failure.BAD_ANSWER)
