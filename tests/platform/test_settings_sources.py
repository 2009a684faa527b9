"""Where settings come from: files of the project, `.env`, variables, files with secrets."""

import shutil
from pathlib import Path

import pytest

from app.platform.settings import (
    DECLARED,
    PROJECT_ROOT,
    Settings,
    SettingsError,
    load_settings,
)

SECRET = "kR7!v0Zq-mX2p_Lw9sTdY4uB6nHcJ1eG"
GIVEN = {"APP_DATABASE_URL": "postgresql://me@localhost/bursar"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a project folder that has the real files of config/."""
    shutil.copytree(PROJECT_ROOT / "config", tmp_path / "config")
    return tmp_path


def load(root: Path, **more: str) -> Settings:
    return load_settings({**GIVEN, **more}, root=root)


def problem(root: Path, **more: str) -> str:
    """Load settings that are refused for one reason, and return it."""
    with pytest.raises(SettingsError) as caught:
        load(root, **more)
    (only,) = caught.value.problems
    return only


def test_a_secret_comes_from_a_file_without_the_line_break_at_its_end(root: Path) -> None:
    for end in ("", "\n", "\r\n", "\n\n"):
        (root / "secret").write_bytes(f"{SECRET}{end}".encode())
        settings = load(root, APP_AUTH_JWT_SECRET_FILE=str(root / "secret"))
        assert settings.auth_jwt_secret == SECRET
    assert load(root, APP_AUTH_JWT_SECRET_FILE="./secret").auth_jwt_secret == SECRET


def test_a_secret_and_its_file_together_are_refused(root: Path) -> None:
    (root / "secret").write_text(SECRET)
    both = {"APP_AUTH_JWT_SECRET": SECRET, "APP_AUTH_JWT_SECRET_FILE": "secret"}
    assert problem(root, **both).startswith(
        "APP_AUTH_JWT_SECRET and APP_AUTH_JWT_SECRET_FILE are both set"
    )


def test_an_empty_variable_counts_as_not_set(root: Path) -> None:
    (root / "secret").write_text(SECRET)
    settings = load(
        root,
        APP_SERVER_PORT="",
        APP_CORS_ORIGINS=" ",
        APP_METRICS_TOKEN="",
        APP_SENTRY_DSN_FILE="",
        APP_AUTH_JWT_SECRET="",
        APP_AUTH_JWT_SECRET_FILE="secret",
    )
    assert settings.server_port == 3000
    assert settings.cors_origins == ()
    assert settings.metrics_token is None
    assert settings.sentry_dsn is None
    assert settings.auth_jwt_secret == SECRET


def test_an_empty_secret_is_missing_in_production(root: Path) -> None:
    production = {"APP_ENV": "production", "APP_PUBLIC_URL": "https://bursar.acme.org"}
    assert problem(root, **production, APP_AUTH_MASTER_KEYS=" ") == (
        "APP_AUTH_MASTER_KEYS is missing, and production needs it; set APP_AUTH_MASTER_KEYS or"
        " APP_AUTH_MASTER_KEYS_FILE."
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"x" * 70_000, "is too long"),
        (b"\xff\xfe" * 20, "can't be read: it isn't a text"),
        (b"one\ntwo" * 10, "contains a line break or another invisible character"),
        (b" " + SECRET.encode(), "begins or ends with a space"),
        ("\ufeff".encode() + SECRET.encode(), "contains a line break or another invisible"),
    ],
)
def test_a_secret_file_that_holds_no_secret_is_refused(
    root: Path, content: bytes, reason: str
) -> None:
    (root / "secret").write_bytes(content)
    found = problem(root, APP_AUTH_JWT_SECRET_FILE="secret")
    assert found.startswith(f"The file that APP_AUTH_JWT_SECRET_FILE names {reason}")


def test_a_secret_put_where_a_path_belongs_does_not_show(root: Path) -> None:
    for slip in (SECRET, "x" * 300 + SECRET, f"{SECRET}\0"):
        found = problem(root, APP_AUTH_JWT_SECRET_FILE=slip)
        assert found.startswith("The file that APP_AUTH_JWT_SECRET_FILE names can't be read")
        assert SECRET not in found


def test_a_folder_is_no_secret_file(root: Path) -> None:
    assert "Is a directory" in problem(root, APP_AUTH_JWT_SECRET_FILE=".")


def test_a_secret_in_a_file_of_the_project_is_refused_and_not_shown(root: Path) -> None:
    with (root / "config/development.toml").open("a") as file:
        file.write(f"[auth]\njwt_secret = '{SECRET}'\n")
    found = problem(root)
    assert found.startswith("[auth] jwt_secret in config/development.toml is a secret")
    assert "APP_AUTH_JWT_SECRET_FILE" in found
    assert SECRET not in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[server]\nprot = 1\n", "[server] prot in config/test.toml is not a setting"),
        ("[server_trusted]\nhosts = []\n", "[server_trusted] hosts in config/test.toml is not"),
        ("port = 3000\n", "port in config/test.toml is not a setting"),
        ("env = 'production'\n", "env in config/test.toml is not a setting"),
        ("[server\n", "config/test.toml isn't valid TOML: Expected ']'"),
        ("[server]\nport = '30x'\n", "[server] port in config/test.toml must be a whole number"),
        ("[server]\nport = true\n", "[server] port in config/test.toml must be a whole number"),
        ('[cors]\norigins = ["a\\nb"]\n', "[cors] origins in config/test.toml contains a line"),
        ("[log]\nlevels = { app = 'loud' }\n", "[log] levels in config/test.toml must be pairs"),
    ],
)
def test_a_mistake_in_a_file_names_the_place(root: Path, text: str, sentence: str) -> None:
    (root / "config/test.toml").write_text(text)
    assert problem(root, APP_ENV="test").startswith(sentence)


def test_a_file_that_is_missing_or_no_text_is_named(root: Path) -> None:
    (root / "config/test.toml").write_bytes(b"\xff")
    assert problem(root, APP_ENV="test") == "config/test.toml isn't valid TOML: not UTF-8."
    (root / "config/test.toml").unlink()
    assert problem(root, APP_ENV="test").startswith("config/test.toml can't be read: No such file")


def test_native_values_of_a_file_are_as_good_as_texts(root: Path) -> None:
    (root / "config/test.toml").write_text(
        "[server]\nport = 4000\n[database]\nacquire_timeout = 1\n"
        "[cors]\norigins = ['https://a.acme.org', 'https://b.acme.org']\n"
        "[log]\nlevels = { app = 'debug', 'sqlalchemy.engine' = 'WARNING' }\n"
    )
    settings = load(root, APP_ENV="test")
    assert settings.server_port == 4000
    assert settings.database_acquire_timeout == 1.0
    assert settings.cors_origins == ("https://a.acme.org", "https://b.acme.org")
    assert settings.log_levels == (("app", "debug"), ("sqlalchemy.engine", "warning"))


def test_dotenv_is_read_in_development_only(root: Path) -> None:
    (root / ".env").write_text("APP_SERVER_PORT=4000\nAPP_NO_SETTING=1\n")
    assert load(root, APP_ENV="test").server_port == 3000
    assert problem(root).startswith("APP_NO_SETTING in .env is not a setting")


def test_dotenv_holds_what_compose_needs_and_secrets_as_they_are(root: Path) -> None:
    (root / ".env").write_text(
        "# a comment\nCOMPOSE_PROJECT_NAME=x\nexport APP_SERVER_PORT=4000\n"
        f"APP_AUTH_JWT_SECRET='${{HOME}}{SECRET}'\nAPP_METRICS_TOKEN=\n"
    )
    settings = load(root)
    assert settings.server_port == 4000
    assert settings.auth_jwt_secret == f"${{HOME}}{SECRET}"
    assert settings.metrics_token is None


def test_a_variable_wins_over_a_secret_file_named_in_dotenv(root: Path) -> None:
    (root / ".env").write_text("APP_METRICS_TOKEN_FILE=token\n")
    (root / "token").write_text("from-the-file")
    assert load(root).metrics_token == "from-the-file"
    assert load(root, APP_METRICS_TOKEN="from-the-variable").metrics_token == "from-the-variable"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"APP_ENV=production\n", "APP_ENV can't stand in .env"),
        (b"\n \n'APP_X\n", ".env, line 3, isn't of the form NAME=value."),
        (b"\xff", ".env can't be read: not UTF-8."),
        (b"APP_AUTH_JWT_SECRET=" + b"s" * 9, "APP_AUTH_JWT_SECRET in .env must have 32"),
    ],
)
def test_a_mistake_in_dotenv_is_refused(root: Path, content: bytes, sentence: str) -> None:
    (root / ".env").write_bytes(content)
    found = problem(root)
    assert found.startswith(sentence)
    assert "sssssssss" not in found


def test_dotenv_that_is_a_folder_is_refused(root: Path) -> None:
    (root / ".env").mkdir()
    assert problem(root).startswith(".env can't be read: Is a directory")


def test_the_example_of_dotenv_is_a_good_one(root: Path) -> None:
    without = load(root)
    example = (PROJECT_ROOT / ".env.example").read_text()
    (root / ".env").write_text(example)
    assert load(root) == without
    lines = [line[1:] for line in example.splitlines() if line.startswith("#APP_")]
    names = {line.partition("=")[0].removesuffix("_FILE") for line in lines}
    assert names <= {one.name for one in DECLARED}
    (root / ".env").write_text("\n".join(line for line in lines if "_FILE=" not in line))
    assert load_settings({}, root=root).server_port == 3001


@pytest.mark.parametrize("env", ["development", "test", "staging", "production"])
def test_the_files_of_the_project_are_good_ones(root: Path, env: str) -> None:
    rest = {} if env in ("development", "test") else {"APP_PUBLIC_URL": "https://bursar.acme.org"}
    keys = "1:x1W1zS6sVZq0m3YfVwUjQmC9m8bq5p0nqkq2s2oYl7E="
    assert load(root, APP_ENV=env, APP_AUTH_MASTER_KEYS=keys, **rest).env == env
