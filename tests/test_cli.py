"""What the operator's commands do, and how they refuse."""

import json
from collections.abc import Callable
from dataclasses import replace
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

from sqlalchemy import Row

from app.platform.settings import Settings
from tests.client import Client
from tests.commands import command, flask

Sql = Callable[..., list[Row[Any]]]
PASSWORD = "analytical engine 1843"


def create_admin(
    settings: Settings,
    email: str,
    *,
    name: str = "Ada",
    password: str = PASSWORD,
    run: Callable[..., CompletedProcess[str]] = command,
) -> tuple[int, str, str]:
    """Run the command; return its exit code, and what it said on its two outputs."""
    ended = run(
        settings, "users", "create-admin", "--email", email, "--name", name, typed=f"{password}\n"
    )
    assert password not in ended.stdout + ended.stderr
    # The log goes to standard error too, a JSON object a line.
    sentences = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    return ended.returncode, ended.stdout, "\n".join(sentences)


def test_the_first_administrator_comes_from_the_command_line(settings: Settings, sql: Sql) -> None:
    email = f"{uuid4().hex}@example.com"
    code, said, _ = create_admin(settings, email, run=flask)
    ((user_id, roles),) = sql("SELECT id, roles FROM users WHERE email = :email", email=email)
    assert (code, said) == (0, f"Created administrator {email} with id {user_id}.\n")
    assert roles == ["admin"]
    ((event,),) = sql(
        "SELECT to_jsonb(audit_events) FROM audit_events WHERE subject_id = :id", id=user_id
    )
    assert (event["action"], event["actor_kind"], event["actor_id"]) == (
        "users.admin.created",
        "cli",
        None,
    )
    code, _, complaint = create_admin(settings, email)
    assert code == 1
    assert complaint.startswith("Error: ")
    assert len(sql("SELECT 1 FROM users WHERE email = :email", email=email)) == 1


def test_an_administrator_signs_in_with_the_password_in_another_spelling(
    settings: Settings, client: Client
) -> None:
    email = f"{uuid4().hex}@example.com"
    assert create_admin(settings, email, password="\uff41nalytical engine 1843")[0] == 0
    body = {"email": email, "password": PASSWORD}
    assert client.post("/api/v1/auth/login", json=body).status_code == 200


def test_an_administrator_is_checked_like_everybody_who_signs_up(
    settings: Settings, sql: Sql
) -> None:
    code, _, complaint = create_admin(settings, "ada", name="", password="short-7")
    assert code == 1
    fields = [line.removeprefix("Error: ").partition(":")[0] for line in complaint.splitlines()]
    assert sorted(fields) == ["email", "name", "password"]
    email = f"{uuid4().hex}@example.com"
    code, _, complaint = create_admin(settings, email, password="password123")
    assert (code, complaint.startswith("Error: ")) == (1, True)
    assert sql("SELECT 1 FROM users WHERE email = :email", email=email) == []


def test_settings_that_can_not_be_used_end_a_command_with_sentences_for_people(
    settings: Settings,
) -> None:
    ended = flask(replace(settings, database_url="mysql://somewhere"), "credits", "verify")
    assert (ended.returncode, ended.stdout) == (78, "")
    first, *problems = ended.stderr.splitlines()
    assert first == "The settings can't be used:"
    assert [problem.partition(" ")[0] for problem in problems] == ["APP_DATABASE_URL"]


def test_in_production_they_end_it_with_a_line_for_programs(settings: Settings) -> None:
    ended = flask(replace(settings, env="production"), "credits", "verify")
    assert (ended.returncode, ended.stdout) == (78, "")
    line = json.loads(ended.stderr)
    assert (line["level"], line["event"]) == ("critical", "settings_refused")
    named = {problem.partition(" ")[0] for problem in line["problems"]}
    assert {"APP_PUBLIC_URL", "APP_AUTH_MASTER_KEYS"} <= named
