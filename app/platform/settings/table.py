"""The one table of settings: type, shape, what README says, and what counts when nobody sets it.

Variables and keys of config/*.toml follow from it, and a test holds README's table against it. The
field `server_port` is APP_SERVER_PORT, and `port` in the section `[server]`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.platform.settings import addresses, mail, values
from app.platform.settings.project import VERSION
from app.platform.settings.rules import PRODUCTION

ENVIRONMENTS = ("development", "test", "staging", "production")


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
    server_drain_seconds: float = field(
        metadata=about(
            values.seconds(0, 600),
            "Seconds that `/ready` says 503 before a stop begins, for balancers; 5 in staging and"
            " production.",
        )
    )
    server_stop_seconds: float = field(
        metadata=about(values.seconds(1, 3_600), "Seconds after SIGTERM until somebody kills it.")
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
            "PostgreSQL 15 or newer: `postgresql://user:password@host:5432/database`; with several"
            " hosts, `@first:5432,second:5432/`, the one that takes writes.",
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
    database_pooler: bool = field(
        metadata=about(
            values.switch,
            "Whether `APP_DATABASE_URL` leads to a pooler in transaction mode, such as PgBouncer:"
            " true or false.",
        )
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
    auth_signup_mode: str = field(
        metadata=about(
            values.choice("open", "private"),
            "open: who signs up is told that an address is taken. private: nobody learns who has"
            " an account.",
        )
    )
    auth_require_verified_email: bool = field(
        metadata=about(
            values.switch, "Whether nobody signs in before the address is verified: true or false."
        )
    )
    auth_access_seconds: int = field(
        metadata=about(values.number(1, 86_400), "Seconds that an access token is good for.")
    )
    auth_signing_key_days: int = field(
        metadata=about(
            values.number(1, 3_650), "Days that a signing key signs before the next one does."
        )
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
    rate_limit_enabled: bool = field(
        metadata=about(values.switch, "Whether anything is limited: true or false.")
    )
    rate_limit_storage_url: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            addresses.redis_url,
            "Redis or Valkey for the counters: `redis://host:6379/0`, `rediss`, `valkey`,"
            " `valkeys`, `unix`.",
            absent="none: they are in the database",
        ),
    )
    rate_limit_user_per_minute: int = field(
        metadata=about(values.number(1, 1_000_000), "Requests a minute of each user.")
    )
    rate_limit_anonymous_per_minute: int = field(
        metadata=about(
            values.number(1, 1_000_000),
            "Requests a minute without an access token, of each network address.",
        )
    )
    cors_origins: tuple[str, ...] = field(
        metadata=about(
            values.listed(addresses.origin), "Exact origins whose pages may call the API."
        )
    )
    mail_url: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            mail.mail_url,
            "Mail server: `smtp://user:password@host:587`, `smtps://user:password@host:465`.",
            absent="none: mails wait; in development and test they lie in `<APP_DATA_DIR>/mail`",
        ),
    )
    mail_from: str = field(
        metadata=about(
            mail.mail_from,
            "Sender of mails: `Bursar <no-reply@acme.org>`, or the address alone.",
            absent=f"`{mail.DEVELOPMENT_MAILBOX}`; required in staging and production with"
            " `APP_MAIL_URL`",
        )
    )
    webhooks_allow_private: bool = field(
        metadata=about(
            values.switch,
            "Whether webhooks may lead to this machine and to private networks: true or false.",
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
    log_slow_query_ms: int = field(
        metadata=about(
            values.number(1, 600_000),
            "Milliseconds after which a statement gets a line in the log.",
        )
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
    worker_metrics_bind: str | None = field(
        default=None,
        metadata=about(
            addresses.host_and_port,
            "Address of the `/metrics` and `/health` of `flask worker`: `127.0.0.1:9101`.",
            absent="none",
        ),
    )
    sentry_dsn: str | None = field(
        default=None,
        repr=False,
        metadata=about(addresses.sentry_dsn, "Where unexpected errors go.", absent="none"),
    )
    otlp_endpoint: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            addresses.otlp_endpoint,
            "Where traces go, by OTLP over HTTP: `http://127.0.0.1:4318`.",
            absent="none",
        ),
    )
    otlp_sample_ratio: float = field(
        metadata=about(values.share, "Share of the traces beginning here that is kept: 0 to 1.")
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
