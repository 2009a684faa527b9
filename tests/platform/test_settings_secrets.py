"""Secrets among the settings: which are refused, and that none ever shows."""

import traceback
from base64 import b64encode
from pathlib import Path

import pytest

from app.platform.settings import (
    DECLARED,
    SettingsError,
)
from tests.platform.loading import (
    CANARY,
    DEVELOPMENT,
    JWT_SECRET,
    KEY,
    MASTER_KEY,
    PRODUCTION,
    Load,
    problems,
)


def test_development_keeps_the_secrets_it_made(load: Load) -> None:
    first, second = load(DEVELOPMENT), load(DEVELOPMENT)
    ((number, key),) = first.auth_master_keys
    assert (number, len(key)) == (1, 32)
    assert first == second
    assert first.auth_jwt_secret is None


def test_development_makes_a_signing_secret_only_for_hs256(load: Load) -> None:
    settings = load(DEVELOPMENT, APP_AUTH_JWT_ALGORITHM="HS256")
    assert len(settings.auth_jwt_secret or "") >= 32


@pytest.mark.parametrize(
    "secret", ["change-me-" * 4, "a" * 40, "my-super-secret-signing-value-here"]
)
def test_production_refuses_a_placeholder_and_development_does_not(load: Load, secret: str) -> None:
    (problem,) = problems(load, PRODUCTION, APP_AUTH_JWT_SECRET=secret)
    assert problem.startswith("APP_AUTH_JWT_SECRET holds a placeholder")
    assert load(DEVELOPMENT, APP_AUTH_JWT_SECRET=secret).auth_jwt_secret == secret


def test_production_refuses_placeholders_wherever_a_secret_stands(load: Load) -> None:
    found = problems(
        load,
        {
            **PRODUCTION,
            "APP_DATABASE_URL": "postgresql://app:change%4De@db/bursar",
            "APP_DATABASE_MIGRATION_URL": "postgresql://owner:password@db/bursar",
            "APP_AUTH_MASTER_KEYS": f"{MASTER_KEY},2:{b64encode(bytes(range(32))).decode()}",
            "APP_METRICS_TOKEN": "insecure",
            "APP_MAIL_URL": "smtps://bursar:change-me@mail.acme.org",
            "APP_MAIL_FROM": "bursar@acme.org",
        },
    )
    assert [problem.split(" ", 1)[0] for problem in found] == [
        "APP_METRICS_TOKEN",
        "APP_DATABASE_URL",
        "APP_DATABASE_MIGRATION_URL",
        "APP_MAIL_URL",
        "APP_AUTH_MASTER_KEYS",
    ]


def test_production_refuses_the_secrets_of_a_development_machine(
    load: Load, tmp_path: Path
) -> None:
    load(DEVELOPMENT, APP_AUTH_JWT_ALGORITHM="HS256")
    made = tmp_path / "var/secrets"
    copied = {
        "APP_AUTH_MASTER_KEYS": (made / "auth_master_keys").read_text().strip(),
        "APP_AUTH_JWT_SECRET": (made / "auth_jwt_secret").read_text().strip(),
    }
    assert len(problems(load, {**PRODUCTION, **copied})) == 2


@pytest.mark.parametrize("name", [one.name for one in DECLARED if one.secret])
@pytest.mark.parametrize("value", [f"{CANARY}\x00", f" {CANARY}", CANARY, f"{CANARY}://{CANARY}"])
def test_no_secret_shows_in_a_problem_or_a_traceback(load: Load, name: str, value: str) -> None:
    given = {**PRODUCTION, "APP_SERVER_PORT": "0", name: value}
    with pytest.raises(SettingsError) as caught:
        load(given)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{CANARY}/x@db/bursar",
        f"postgresql://u:{CANARY}#x@db/bursar",
        f"postgresql://u:{CANARY}?x@db/bursar",
        f"postgresql://u:p@[{CANARY}]/bursar",
        f"postgresql://u:p@db:{CANARY}/bursar",
    ],
)
def test_no_piece_of_a_password_shows_when_an_address_is_cut_in_the_wrong_place(
    load: Load, url: str
) -> None:
    (problem,) = problems(load, {**PRODUCTION, "APP_DATABASE_URL": url})
    assert "percent-encoded" in problem
    assert CANARY not in problem


def test_secrets_do_not_show_in_the_representation(load: Load) -> None:
    settings = load(
        {
            **PRODUCTION,
            "APP_DATABASE_URL": f"postgresql://u:{CANARY}@db/bursar",
            "APP_AUTH_JWT_SECRET": f"{CANARY}{JWT_SECRET}",
            "APP_METRICS_TOKEN": CANARY,
            "APP_SENTRY_DSN": f"https://{CANARY}@sentry.acme.org/1",
            "APP_OTLP_ENDPOINT": f"https://u:{CANARY}@collector.acme.org",
            "APP_MAIL_URL": f"smtps://u:{CANARY}@mail.acme.org",
            "APP_MAIL_FROM": "bursar@acme.org",
        }
    )
    assert settings.sentry_dsn == f"https://{CANARY}@sentry.acme.org/1"
    assert CANARY not in repr(settings)
    assert repr(KEY) not in repr(settings)


def test_a_data_folder_made_by_somebody_else_is_checked_like_any_other_value(
    load: Load, tmp_path: Path
) -> None:
    load(DEVELOPMENT)
    (tmp_path / "var/secrets/auth_master_keys").write_text("1:c2hvcnQ=\n")
    (problem,) = problems(load, DEVELOPMENT)
    assert problem.startswith(f"The file {tmp_path}/var/secrets/auth_master_keys must be numbered")
