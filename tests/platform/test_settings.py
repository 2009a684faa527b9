"""Settings as an operator meets them: layers, and what is refused before the start."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from app.platform.settings import (
    DECLARED,
    EXIT_CODE,
    PROJECT_ROOT,
    VERSION,
    load_settings,
)
from tests.platform.loading import DEVELOPMENT, KEY, PRODUCTION, Load, problems

EVERYWHERE = str(IPv4Address(0))


def test_a_clone_needs_no_settings(load: Load, tmp_path: Path) -> None:
    settings = load({})
    assert (settings.env, settings.is_production) == ("development", False)
    assert (settings.server_host, settings.server_port) == ("127.0.0.1", 3000)
    assert settings.server_workers >= 1
    assert settings.public_url == settings.auth_issuer == "http://127.0.0.1:3000"
    assert settings.server_trusted_hosts == ("127.0.0.1", "localhost", "[::1]")
    assert settings.data_dir == tmp_path / "var"
    assert settings.database_embedded
    assert settings.database_url.startswith("postgresql+psycopg2://bursar_app:")
    assert settings.database_migration_url.startswith("postgresql+psycopg2://bursar_owner:")
    assert (settings.database_min_connections, settings.database_max_connections) == (2, None)
    assert settings.log_format == "pretty"
    assert settings.sentry_dsn is None


def test_production_takes_what_the_operator_gives(load: Load, tmp_path: Path) -> None:
    settings = load(PRODUCTION)
    assert settings.is_production
    assert not settings.database_embedded
    assert settings.database_url == "postgresql+psycopg2://bursar_app:s3Kx9@db.acme.org:5432/bursar"
    assert settings.database_migration_url == settings.database_url
    assert settings.auth_master_keys == ((1, KEY),)
    assert settings.server_host == EVERYWHERE
    assert settings.server_trusted_hosts == ("bursar.acme.org",)
    assert settings.log_format == "json"
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("env", ["staging", "production"])
def test_staging_and_production_name_everything_that_is_missing(load: Load, env: str) -> None:
    assert problems(load, {"APP_ENV": env, "APP_AUTH_JWT_ALGORITHM": "HS256"}) == [
        f"APP_PUBLIC_URL is missing, and {env} needs it; set APP_PUBLIC_URL.",
        *(
            f"{name} is missing, and {env} needs it; set {name} or {name}_FILE."
            for name in ("APP_DATABASE_URL", "APP_AUTH_MASTER_KEYS", "APP_AUTH_JWT_SECRET")
        ),
    ]


def test_all_problems_are_reported_at_once(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config/production.toml").write_text("[server]\nprot = 80\nhost = 'a b'\n")
    found = problems(
        load,
        {"APP_ENV": "production"},
        APP_SERVER_PORT="http",
        APP_SERVR_HOST="localhost",
        APP_PUBLIC_URL="bursar.acme.org",
        APP_AUTH_JWT_SECRET="short",
        APP_DATABASE_URL_FILE="missing",
        APP_DATABASE_MIN_CONNECTIONS="9",
        APP_DATABASE_MAX_CONNECTIONS="3",
    )
    assert [problem.split(" ", 1)[0] for problem in found] == [
        "[server]",
        "APP_SERVR_HOST",
        "The",
        "[server]",
        "APP_SERVER_PORT",
        "APP_PUBLIC_URL",
        "APP_AUTH_JWT_SECRET",
        "APP_AUTH_MASTER_KEYS",
        "APP_DATABASE_MIN_CONNECTIONS",
    ]


def test_later_layers_win(load: Load, tmp_path: Path) -> None:
    assert load(DEVELOPMENT).server_port == 3000
    (tmp_path / "config/development.toml").write_text("[server]\nport = 3001\n")
    assert load(DEVELOPMENT).server_port == 3001
    (tmp_path / ".env").write_text("APP_SERVER_PORT=3002\n")
    assert load(DEVELOPMENT).server_port == 3002
    assert load(DEVELOPMENT, APP_SERVER_PORT="3003").server_port == 3003


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"APP_ENV": "Production"}, "APP_ENV must be one of"),
        ({"APP_ENV": ""}, "APP_ENV is empty"),
        ({"APP_ENV": " production"}, "APP_ENV begins or ends with a space"),
        ({"APP_DATABASE_MIGRATION_URL": "postgresql://o@h/d"}, "is set without APP_DATABASE_URL"),
        ({"APP_METRICS_BIND": "127.0.0.1:3000"}, "needs another port than APP_SERVER_PORT"),
        ({"APP_AUTH_ARGON2_PARALLELISM": "64", "APP_AUTH_ARGON2_MEMORY_KIB": "500"}, "8 times"),
        ({"APP_DATABASE_MAX_CONNECTIONS": "1"}, "APP_DATABASE_MIN_CONNECTIONS (2) is above"),
        ({"APP_AUTH_JWT_SECRET": "x" * 31}, "must have 32 characters or more"),
        ({"APP_AUTH_SIGNUP_MODE": "closed"}, "APP_AUTH_SIGNUP_MODE must be"),
        ({"APP_OTLP_ENDPOINT": "collector:4317"}, "must be the address of a collector, such as"),
        ({"APP_OTLP_SAMPLE_RATIO": "10%"}, "APP_OTLP_SAMPLE_RATIO must be a number from 0 to 1"),
        ({"APP_MAIL_FROM_FILE": "f"}, "only secrets come as files; set APP_MAIL_FROM."),
        ({"APP_SERVER_PROT": "1"}, "is not a setting; did you mean APP_SERVER_PORT?"),
        ({"APP_": "1"}, "APP_ is not a setting; README lists all of them."),
        ({"APP_SERVER_PORT_FILE": "port"}, "only secrets come as files; set APP_SERVER_PORT."),
    ],
)
def test_what_cannot_be_meant_is_refused(load: Load, wrong: dict[str, str], sentence: str) -> None:
    (problem,) = problems(load, wrong)
    assert sentence in problem


def test_what_asks_for_nothing_that_is_missing_is_accepted(load: Load) -> None:
    load(
        PRODUCTION,
        APP_AUTH_SIGNUP_MODE="open",
        APP_AUTH_REQUIRE_VERIFIED_EMAIL="False",
        APP_RATE_LIMIT_ENABLED="false",
        APP_MAIL_URL="",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("APP_AUTH_SIGNUP_MODE", "private"), ("APP_AUTH_REQUIRE_VERIFIED_EMAIL", "true")],
)
def test_what_lets_nobody_in_without_mails_needs_a_mail_server(
    load: Load, name: str, value: str
) -> None:
    chosen = {**PRODUCTION, name: value}
    assert problems(load, chosen) == [
        f"{name}={value} lets nobody in without mails; set APP_MAIL_URL."
    ]
    server = {"APP_MAIL_URL": "smtp://mail.acme.org", "APP_MAIL_FROM": "bursar@acme.org"}
    load(chosen | server)
    load({**DEVELOPMENT, name: value})


@pytest.mark.parametrize("env", ["staging", "production"])
def test_mails_need_a_sender_where_there_is_a_server_for_them(load: Load, env: str) -> None:
    server = {**PRODUCTION, "APP_ENV": env, "APP_MAIL_URL": "smtp://mail.acme.org"}
    assert problems(load, server) == [
        f"APP_MAIL_FROM is missing, and {env} needs it; set APP_MAIL_FROM."
    ]
    assert load(server, APP_MAIL_FROM="bursar@acme.org").mail_from == "bursar@acme.org"


def test_production_starts_without_a_mail_server_and_development_needs_no_sender(
    load: Load,
) -> None:
    assert load(PRODUCTION).mail_url is None
    settings = load(DEVELOPMENT, APP_MAIL_URL="smtp://localhost:1025")
    assert (settings.mail_url, settings.mail_from) == (
        "smtp://localhost:1025",
        "Bursar <bursar@localhost>",
    )


def test_names_that_do_not_begin_with_app_are_somebody_elses(load: Load) -> None:
    load(PRODUCTION, APPLE="1", app_server_prot="1", MY_APP_X="1")


def test_an_unusable_data_folder_is_a_sentence(load: Load, tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")
    (problem,) = problems(load, DEVELOPMENT)
    assert str(tmp_path / "var") in problem
    assert problem.endswith("or set APP_DATA_DIR to another one.")


def test_a_place_where_the_embedded_database_cannot_be_is_a_sentence(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var/postgres").write_text("a file")
    (problem,) = problems(load, {})
    assert str(tmp_path / "var") in problem


def test_what_depends_on_a_bad_value_is_no_problem_of_its_own(load: Load, tmp_path: Path) -> None:
    found = problems(load, {}, APP_DATA_DIR="va\tr", APP_SERVER_PORT="0")
    assert found == [
        "APP_DATA_DIR contains a line break or another invisible character.",
        "APP_SERVER_PORT must be a whole number from 1 to 65535.",
    ]
    assert not (tmp_path / "var").exists()


def test_a_default_that_was_deleted_is_named(load: Load, tmp_path: Path) -> None:
    (tmp_path / "config/default.toml").write_text('[data]\ndir = "var"\n')
    found = problems(load, PRODUCTION)
    assert "APP_SERVER_PORT has no value; put its default back into config/default.toml." in found


def test_the_version_comes_from_setup_cfg_and_names_the_commit(load: Load) -> None:
    assert f"version = {VERSION}\n" in (PROJECT_ROOT / "setup.cfg").read_text()
    assert load(PRODUCTION, APP_BUILD_COMMIT="").version == VERSION
    assert load(PRODUCTION, APP_BUILD_COMMIT="4f2a9c1").version == f"{VERSION}+4f2a9c1"


def test_an_ipv6_address_gets_brackets_where_a_port_follows(load: Load) -> None:
    assert load(PRODUCTION, APP_SERVER_HOST="[::]").server_host == "::"
    assert load(PRODUCTION, APP_SERVER_HOST="::").server_bind == "[::]:3000"
    assert load(PRODUCTION).server_bind == f"{EVERYWHERE}:3000"


def test_the_process_environment_counts_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch, load: Load
) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("APP_SERVER_PORT", "4000")
    assert load_settings().server_port == 4000
    assert load({**PRODUCTION}).server_port == 3000


def test_every_setting_is_described_with_its_default() -> None:
    assert len({one.name for one in DECLARED}) == len(DECLARED)
    assert all(one.description.endswith(".") and one.default for one in DECLARED)
    defaults = {one.name: one.default for one in DECLARED}
    assert defaults["APP_SERVER_PORT"] == "3000"
    assert defaults["APP_SERVER_TRUSTED_PROXIES"] == "0"
    assert defaults["APP_CORS_ORIGINS"] == "none"
    assert defaults["APP_SERVER_WORKERS"] == "usable CPUs"


def test_the_exit_code_is_that_of_a_configuration_mistake() -> None:
    assert EXIT_CODE == 78
