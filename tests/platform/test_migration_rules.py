"""What a migration may do to code and people who are at work meanwhile: the rules of its README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.platform import migrations
from migrations import printing

ROOT = migrations.DIRECTORY.parent
# What older code misses when it is gone or is another one.
TAKES_AWAY = re.compile(
    r"\bDROP\s+(TABLE|COLUMN|FUNCTION|PROCEDURE|TYPE|VIEW|SCHEMA|TRIGGER)\b|\bRENAME\b"
    r"|\bCREATE\s+OR\s+REPLACE\b|\bALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE\b"
    r"|\bSET\s+NOT\s+NULL\b|\bREVOKE\b(?!\s+ALL\s+ON\s+FUNCTION\s+\S+.*?\s+FROM\s+PUBLIC)",
    re.IGNORECASE,
)
CONTRACTS = re.compile(r"^COMMENT ON TABLE alembic_version IS '(.*)';$", re.MULTILINE)
# Of before the first release, when there was no older code.
UNRELEASED = {"0008_access"}
# Alembic prints each transaction, and what stands between two isn't in one.
TRANSACTIONS = re.compile("^BEGIN;$.*?^COMMIT;$", re.MULTILINE | re.DOTALL)
# What can be done a second time, when the first one broke off.
REPEATABLE = re.compile(
    r"ALTER TABLE \w+ VALIDATE CONSTRAINT \w+|DROP INDEX CONCURRENTLY IF EXISTS \w+"
    r"|SET lock_timeout.*|RESET lock_timeout|CREATE (UNIQUE )?INDEX CONCURRENTLY .*",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """The SQL of each migration, without comments."""
    return {name: re.sub("--.*", "", text) for name, text in printing.printed()}


def test_what_takes_something_away_says_which_code_it_serves_from_then_on(
    printed: dict[str, str],
) -> None:
    taking = {name for name, text in printed.items() if TAKES_AWAY.search(text)}
    contracts = {name: CONTRACTS.findall(text) for name, text in printed.items()}
    assert taking - UNRELEASED == {name for name, found in contracts.items() if found}
    for name, found in contracts.items():
        # It is of a release before: the code of its own one has nothing to do with it any more.
        assert [serves for serves in found if serves not in printed or serves > name] == []


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE users\n    DROP COLUMN name",
        "DROP FUNCTION post_transfer_v2(uuid)",
        "ALTER TABLE users RENAME COLUMN name TO full_name",
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(9)",
        "ALTER TABLE users ALTER COLUMN name SET NOT NULL",
        "REVOKE SELECT ON users FROM bursar_app",
        "CREATE OR REPLACE FUNCTION post_transfer_v3(uuid) RETURNS void",
    ],
)
def test_taking_away_is_recognised(statement: str) -> None:
    assert TAKES_AWAY.search(statement)


def test_the_usual_grants_take_nothing_away() -> None:
    assert not TAKES_AWAY.search("REVOKE ALL ON FUNCTION do_thing_v1(uuid, text) FROM PUBLIC;")


def test_what_is_done_outside_of_a_transaction_can_be_done_again(printed: dict[str, str]) -> None:
    found = 0
    for name, text in printed.items():
        inside = "".join(TRANSACTIONS.findall(text))
        outside = [part.strip() for part in TRANSACTIONS.sub("", text).split(";\n")]
        assert [part for part in outside if part and not REPEATABLE.fullmatch(part)] == []
        if "CONCURRENTLY" in text:
            # Or the tables would be there already, when the index is built at the second try.
            assert not re.search(r"\b(CREATE|ALTER|DROP)\b", inside), name
            found += 1
    assert found >= 2


def test_the_least_revision_is_one_of_ours(printed: dict[str, str]) -> None:
    assert migrations.LEAST_REVISION in printed


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX ix_users_name ON users (name);", "require-concurrent-index-creation"),
        ("ALTER TABLE users DROP COLUMN name;", "ban-drop-column"),
        ("ALTER TABLE users ADD COLUMN age bigint NOT NULL;", "adding-required-field"),
        ("ALTER TABLE users ADD CHECK (age > 0);", "constraint-missing-not-valid"),
        ("ALTER TABLE users RENAME TO people;", "renaming-table"),
        ("ALTER TABLE users ALTER COLUMN age TYPE text;", "changing-column-type"),
    ],
)
def test_the_linter_refuses_what_locks_a_table_or_breaks_older_code(
    statement: str, rule: str, tmp_path: Path
) -> None:
    file = tmp_path / "0099_bad.sql"
    file.write_text(f"SET lock_timeout = '3s';\nBEGIN;\n{statement}\nCOMMIT;\n")
    done = subprocess.run(
        [Path(sys.prefix, "bin", "squawk"), "--config", ROOT / ".squawk.toml", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert rule in done.stdout
