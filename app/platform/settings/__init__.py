"""The only reader of the environment: typed, frozen settings, checked as a whole before the start.

`Settings` is the one table of declarations: variables and keys of config/*.toml follow from it, and
a test holds README's table against it. The field `server_port` is APP_SERVER_PORT, and `port` in
the section `[server]`. A name is looked up whole, never split at `_`.
"""

import os
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from app.platform.settings import addresses, values
from app.platform.settings.rules import PRODUCTION, broken_rules, complete
from app.platform.settings.sources import PREFIX, Sources

PROJECT_ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENTS = ("development", "test", "staging", "production")

# EX_CONFIG of sysexits.h: the configuration is wrong, so starting again doesn't help.
EXIT_CODE = 78

# The version stands once, in setup.cfg.
_setup = ConfigParser(interpolation=None)
_setup.read(PROJECT_ROOT / "setup.cfg", encoding="utf-8")
VERSION = _setup["metadata"]["version"]


class SettingsError(Exception):
    """The settings can't be used: `problems` holds a sentence for each mistake, never a value.

    `production` tells whether programs read about it, as in staging and production, or people.
    """

    def __init__(self, problems: list[str], *, production: bool = False) -> None:
        lines = (f"- {problem}" for problem in problems)
        super().__init__("\n".join(["The settings can't be used:", *lines]))
        self.problems = problems
        self.production = production


def about(shape: values.Shape, description: str, *, absent: str = "") -> dict[str, Any]:
    """Describe a setting; `absent` says in words what counts when nobody sets it."""
    return {"shape": shape, "description": description, "absent": absent}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator can set, checked. A field with `repr=False` is a secret."""

    env: str = field(
        metadata=about(
            values.matching("|".join(ENVIRONMENTS), f"must be one of {', '.join(ENVIRONMENTS)}"),
            "Which rules and which file of config/ count: " + ", ".join(ENVIRONMENTS) + ".",
            absent="development",
        )
    )
    server_host: str = field(
        metadata=about(addresses.host, "Address to listen on; 0.0.0.0 in staging and production.")
    )
    server_port: int = field(metadata=about(values.number(1, 65_535), "Port to listen on."))
    server_workers: int = field(
        metadata=about(values.number(1, 512), "Worker processes.", absent="usable CPUs")
    )
    server_trusted_proxies: int = field(
        metadata=about(
            values.number(0, 16), "How many proxies in front of it add to `X-Forwarded-For`."
        )
    )
    server_trusted_hosts: tuple[str, ...] = field(
        metadata=about(
            values.listed(addresses.trusted_host),
            "Hosts that requests may name, without port; `.acme.org` means every subdomain.",
            absent="host of `APP_PUBLIC_URL`; in development and test also localhost",
        )
    )
    public_url: str = field(
        metadata=about(
            addresses.public_url,
            "Address that clients use: `https://bursar.acme.org`.",
            absent="`http://127.0.0.1:<port>`; required in staging and production",
        )
    )
    data_dir: Path = field(
        metadata=about(values.folder, "Folder for metrics, and for development's own database.")
    )
    database_url: str = field(
        repr=False,
        metadata=about(
            addresses.database_url,
            "PostgreSQL 15 or newer: `postgresql://user:password@host:5432/database`.",
            absent="embedded PostgreSQL; required in staging and production",
        ),
    )
    database_migration_url: str = field(
        repr=False,
        metadata=about(
            addresses.database_url,
            "The same database as its tables' owner, without a pooler in between.",
            absent="`APP_DATABASE_URL`",
        ),
    )
    database_max_connections: int | None = field(
        default=None,
        metadata=about(
            values.number(1, 1_000),
            "Connections of each worker.",
            absent="(the server's `max_connections` less 10) / workers, between 2 and 20",
        ),
    )
    database_min_connections: int = field(
        metadata=about(values.number(0, 1_000), "Connections that a worker opens as it starts.")
    )
    database_acquire_timeout: float = field(
        metadata=about(
            values.seconds(0.1, 30), "Seconds to wait for a free connection, before a 503."
        )
    )
    auth_jwt_algorithm: str = field(
        metadata=about(
            values.choice("EdDSA", "HS256"), "How access tokens are signed: EdDSA or HS256."
        )
    )
    auth_jwt_secret: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            # RFC 7518, 3.2: an HS256 key has at least as many bits as its hash.
            values.matching(".{32,}", "must have 32 characters or more: openssl rand -base64 48"),
            "Signing secret of HS256, 32 characters or more; EdDSA needs none.",
            absent="none; required for HS256 in staging and production",
        ),
    )
    auth_master_keys: values.MasterKeys = field(
        repr=False,
        metadata=about(
            values.master_keys,
            "`2:<32 bytes in base64>,1:…`; the first encrypts and signs, all verify.",
            absent="made in the data folder; required in staging and production",
        ),
    )
    auth_issuer: str = field(
        metadata=about(values.LINE, "`iss` of access tokens.", absent="`APP_PUBLIC_URL`")
    )
    auth_audience: str = field(metadata=about(values.LINE, "`aud` of access tokens."))
    auth_access_seconds: int = field(
        metadata=about(values.number(1, 86_400), "Seconds that an access token is good for.")
    )
    auth_argon2_memory_kib: int = field(
        metadata=about(values.number(8, 4_194_304), "Memory of a password hash, in KiB.")
    )
    auth_argon2_time_cost: int = field(
        metadata=about(values.number(1, 100), "Passes of a password hash.")
    )
    auth_argon2_parallelism: int = field(
        metadata=about(values.number(1, 64), "Lanes of a password hash.")
    )
    cors_origins: tuple[str, ...] = field(
        metadata=about(
            values.listed(addresses.origin), "Exact origins whose pages may call the API."
        )
    )
    log_level: str = field(
        metadata=about(values.choice(*values.LEVELS), f"Least level: {', '.join(values.LEVELS)}.")
    )
    log_levels: tuple[tuple[str, str], ...] = field(
        metadata=about(values.levels, "Levels of modules: `app=debug,sqlalchemy=warning`.")
    )
    log_format: str = field(
        metadata=about(values.choice("json", "pretty"), "json, or pretty as in development.")
    )
    metrics_bind: str | None = field(
        default=None,
        metadata=about(
            addresses.host_and_port, "Own address of `/metrics`: `127.0.0.1:9100`.", absent="none"
        ),
    )
    metrics_token: str | None = field(
        default=None,
        repr=False,
        metadata=about(values.VISIBLE, "Bearer token that `/metrics` asks for.", absent="none"),
    )
    sentry_dsn: str | None = field(
        default=None,
        repr=False,
        metadata=about(addresses.sentry_dsn, "Where unexpected errors go.", absent="none"),
    )
    build_commit: str | None = field(
        default=None,
        metadata=about(
            values.matching("[0-9A-Za-z.-]{1,64}", "must be the id of a commit"),
            "Commit that an image was built from, shown after the version.",
            absent="none",
        ),
    )
    database_embedded: bool

    @property
    def is_production(self) -> bool:
        """Tell whether the rules of production count, as they do in staging."""
        return self.env in PRODUCTION

    @property
    def server_bind(self) -> str:
        """Give the address to listen at, with brackets around IPv6."""
        return addresses.with_port(self.server_host, self.server_port)

    @property
    def server_address(self) -> str:
        """Give the address by which this machine reaches the service."""
        return addresses.reached_from_here(self.server_host, self.server_port)

    @property
    def version(self) -> str:
        """Give the version, and the commit where one was built in: `0.1.0+4f2a9c1`."""
        return f"{VERSION}+{self.build_commit}" if self.build_commit else VERSION


_TABLE = {one.name: one for one in fields(Settings) if one.metadata}
_SHAPES = {name: one.metadata["shape"] for name, one in _TABLE.items()}
_SECRETS = frozenset(name for name, one in _TABLE.items() if not one.repr)


@dataclass(frozen=True, slots=True)
class Declared:
    """A setting as README lists it."""

    name: str
    description: str
    absent: str
    secret: bool

    @property
    def default(self) -> str:
        """Give what counts when no variable sets it: config/default.toml's value, or `absent`."""
        value = _defaults().get(self.name)
        return self.absent if value is None else "none" if value in ([], {}) else str(value)


DECLARED = tuple(
    Declared(
        PREFIX + name.upper(), one.metadata["description"], one.metadata["absent"], not one.repr
    )
    for name, one in _TABLE.items()
)


def load_settings(
    environ: Mapping[str, str] | None = None, *, root: Path = PROJECT_ROOT
) -> Settings:
    """Read the settings of the environment that APP_ENV names, from files in `root` and `environ`.

    `environ` is the process's environment when it isn't given. Relative paths begin at `root`. In
    development and test, secrets that nobody set are made, and kept in the data folder.

    Raises SettingsError, with all problems at once.
    """
    variables = os.environ if environ is None else environ
    environment = variables.get("APP_ENV", "development")
    sources = Sources(root=root, shapes=_SHAPES, secrets=_SECRETS)
    sources.add_toml("config/default.toml")
    if environment in ENVIRONMENTS:
        sources.add_toml(f"config/{environment}.toml")
    if environment == "development":
        sources.add_dotenv()
    sources.add_variables(variables)
    if not environment.strip():
        sources.spoil("env", f"APP_ENV is empty; it must be one of {', '.join(ENVIRONMENTS)}.")
    given = sources.take()
    if "env" not in sources.spoiled:
        given["env"] = environment
        complete(given, sources)
    sources.problems.extend(broken_rules(given))
    # Only when the default file was cut; after other problems it would be noise.
    sources.problems = sources.problems or _without_value(given)
    if sources.problems:
        raise SettingsError(sources.problems, production=environment in PRODUCTION)
    return Settings(**given)


def _without_value(given: Mapping[str, Any]) -> list[str]:
    """Say which settings have no value."""
    return [
        f"{PREFIX}{name.upper()} has no value; put its default back into config/default.toml."
        for name, one in _TABLE.items()
        if one.default is MISSING and name not in given
    ]


@cache
def _defaults() -> Mapping[str, Any]:
    """Read the values of config/default.toml, by variable."""
    sources = Sources(root=PROJECT_ROOT, shapes=_SHAPES, secrets=_SECRETS)
    sources.add_toml("config/default.toml")
    return {PREFIX + name.upper(): raw.value for name, raw in sources.raw.items()}
