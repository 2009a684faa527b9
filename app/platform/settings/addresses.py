"""The shapes of settings that are addresses: hosts, origins, URLs.

The rule of values.py holds here too: a message says what the value must be, and never
repeats it.
"""

import ipaddress
import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from marshmallow import ValidationError

# Where OTLP over HTTP takes traces (OTLP specification, "OTLP/HTTP Request").
TRACES = "/v1/traces"


def host(raw: Any) -> str:
    """Take a host name or an IP address, without a port; IPv6 comes out without brackets.

    Raises ValidationError.
    """
    bare = re.sub(r"^\[(.*:.*)\]$", r"\1", raw) if isinstance(raw, str) else ""
    if is_host(bare):
        return bare.lower()
    raise ValidationError("must be a host name or an IP address without a port, such as 127.0.0.1")


def trusted_host(raw: Any) -> str:
    """Take a host as requests name it, without a port; a leading dot means every subdomain.

    Raises ValidationError.
    """
    bare = raw.lower() if isinstance(raw, str) else ""
    bracketed = bare.startswith("[") and bare.endswith("]") and ":" in bare
    if bracketed and is_host(bare[1:-1]):
        return bare
    if ":" in bare or not is_host(bare.removeprefix(".")):
        raise ValidationError(
            "must list host names without a port, such as bursar.acme.org; .acme.org means every"
            " subdomain"
        )
    return bare


def origin(raw: Any) -> str:
    """Take a web origin, spelled exactly as a browser sends it in `Origin` (RFC 6454).

    Raises ValidationError.
    """
    parts = split(raw)
    if parts and parts.scheme in ("http", "https") and parts.hostname and is_host(parts.hostname):
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        standard = {"http": 80, "https": 443}[parts.scheme]
        port = f":{parts.port}" if parts.port not in (None, standard) else ""
        if raw == f"{parts.scheme}://{name}{port}":
            return str(raw)
    raise ValidationError(
        "must be an exact origin such as https://app.acme.org: scheme and host in lower case, a"
        " port only where it isn't the standard one, and nothing after it"
    )


def public_url(raw: Any) -> str:
    """Take the address that clients use: an origin, with or without a slash at its end.

    Raises ValidationError.
    """
    return origin(raw.removesuffix("/") if isinstance(raw, str) else raw)


def host_and_port(raw: Any) -> str:
    """Take an address to listen on: `127.0.0.1:9100`, `[::1]:9100`.

    Raises ValidationError.
    """
    parts = split(f"//{raw}")
    if not parts or not parts.hostname or not parts.port or not is_host(parts.hostname):
        raise ValidationError("must be a host and a port, such as 127.0.0.1:9100")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if f"{name}:{parts.port}" != str(raw).lower():
        raise ValidationError("must be a host and a port, such as 127.0.0.1:9100")
    return f"{name}:{parts.port}"


def sentry_dsn(raw: Any) -> str:
    """Take the address that Sentry shows under Client Keys.

    Raises ValidationError.
    """
    parts = split(raw)
    project = parts.path.rpartition("/")[2] if parts else ""
    if (
        parts
        and parts.scheme in ("http", "https")
        and parts.username
        and parts.hostname
        and is_host(parts.hostname)
        and re.fullmatch("[0-9]+", project)
    ):
        return str(raw)
    raise ValidationError("must be a Sentry DSN: https://<key>@<host>/<number of the project>")


def otlp_endpoint(raw: Any) -> str:
    """Take the address of an OpenTelemetry collector; it comes out as that of its traces.

    Raises ValidationError.
    """
    parts = split(raw)
    if (
        parts
        and parts.scheme in ("http", "https")
        and parts.hostname
        and is_host(parts.hostname)
        and not (parts.query or parts.fragment)
    ):
        return str(raw).rstrip("/").removesuffix(TRACES) + TRACES
    raise ValidationError("must be the address of a collector, such as http://127.0.0.1:4318")


def database_url(raw: Any) -> str:
    """Take a PostgreSQL URL; it comes out with the psycopg2 driver, whichever way it was spelled.

    A plain `postgresql://` means psycopg 3 to SQLAlchemy, which would block the whole worker while
    it waits. Several hosts come out in the query, where SQLAlchemy and libpq both understand them.

    Raises ValidationError.
    """
    scheme, _, rest = raw.partition("://") if isinstance(raw, str) else ("", "", "")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2"):
        raise ValidationError("must begin with postgresql://; Bursar runs on PostgreSQL only")
    rest = _hosts_in_query(rest)
    # What stands in the wrong place here is most often a piece of a password with / ? # or @ in it.
    parts = split(f"postgresql://{rest}")
    if (
        not parts
        or parts.fragment
        or " " in rest
        or not re.fullmatch("/[^/@]+", parts.path)
        or (parts.hostname is not None and not is_host(parts.hostname))
    ):
        raise ValidationError(
            "must look like postgresql://user:password@host:5432/database, with special characters"
            " of the user name and the password percent-encoded"
        )
    return f"postgresql+psycopg2://{rest}"


def _hosts_in_query(rest: str) -> str:
    """Move several hosts, `user@a:5432,b/database`, into the query of a URL without its scheme.

    Anything else comes back as it is. Unless it is said otherwise the one that takes writes counts:
    the others are standbys of it.
    """
    user, several, path = r"(?P<user>[^/?#]*@)?", r"[^/?#@]*,[^/?#@]*", r"(?P<path>/[^?#]*)"
    found = re.fullmatch(rf"{user}(?P<several>{several}){path}(\?(?P<query>[^#]*))?", rest)
    places = [split(f"//{place}") for place in found["several"].split(",")] if found else []
    hosts = [place.hostname or "" for place in places if place]
    if found is None or len(hosts) < len(places) or not all(map(is_host, hosts)):
        return rest
    query = {"host": ",".join(hosts), "target_session_attrs": "read-write"}
    ports = [str(place.port or "") for place in places if place]
    if any(ports):
        query["port"] = ",".join(ports)
    query |= dict(parse_qsl(found["query"] or ""))
    return f"{found['user'] or ''}{found['path']}?{urlencode(query, safe=',:')}"


def redis_url(raw: Any) -> str:
    """Take the URL of a Redis or Valkey server, or of its Unix socket.

    Raises ValidationError.
    """
    parts = split(raw)
    on_network = parts and parts.scheme in ("redis", "rediss", "valkey", "valkeys")
    if parts and (
        (on_network and parts.hostname and is_host(parts.hostname) and not parts.fragment)
        or (parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"))
    ):
        return str(raw)
    raise ValidationError(
        "must look like redis://user:password@host:6379/0 (or rediss, valkey, valkeys, unix), with"
        " special characters of the user name and the password percent-encoded"
    )


def is_host(text: str) -> bool:
    """Tell whether a text is a host name or an IP address, IPv6 without brackets."""
    address = ":" in text or re.fullmatch("[0-9]+", text.rpartition(".")[2])
    if address:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
        return "%" not in text
    label = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    return len(text) <= 253 and bool(re.fullmatch(rf"{label}(\.{label})*", text.lower()))


def split(raw: Any) -> SplitResult | None:
    """Split a URL, or give None for what isn't one."""
    if not isinstance(raw, str) or not raw.isprintable():
        return None
    try:
        parts = urlsplit(raw)
        return parts if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


def with_port(host: str, port: int) -> str:
    """Give host and port as one address, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_of(address: str) -> str:
    """Give the port of an address that `host_and_port` took, as a server's SERVER_PORT names it."""
    return address.rpartition(":")[2]


def reached_from_here(host: str, port: int) -> str:
    """Give the address by which this machine reaches a server that listens at the host.

    One that listens everywhere is on loopback too.
    """
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    return with_port("localhost" if everywhere else host, port)
