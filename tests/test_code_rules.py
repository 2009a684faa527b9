"""The rules of the design about the code itself that no linter sees."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import pytest

import app as application
from app.platform.errors import AppError
from app.platform.settings import DECLARED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([*ROOT.glob("app/**/*.py"), ROOT / "gunicorn.conf.py", ROOT / "wsgi.py"])
}
Nodes = list[ast.AST]

# Who else touches the process's environment, and why it can't be a setting.
ENVIRONMENT = {
    "app/platform/settings/__init__.py": "reads it, for everybody",
    "app/platform/metrics.py": "tells the Prometheus library its folder, which knows no other way",
}
BOOKS = ("accounts", "account_deltas", "transfers", "entries", "holds", "ledger_state")
# Who calls the functions of the ledger in the database.
LEDGER = {"app/credits/ledger.py", "app/credits/holding.py", "app/credits/state.py"}


@cache
def nodes() -> dict[str, Nodes]:
    """Every node of every module; parsing and walking takes longer than all the tests."""
    return {name: list(ast.walk(ast.parse(text))) for name, text in SOURCES.items()}


def _names(module: Nodes) -> Iterator[str]:
    """Every name and attribute that a module mentions."""
    for node in module:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


def _texts(module: Nodes) -> Iterator[str]:
    """Every string of a module, but for its docstrings."""
    docstrings = {
        id(node.value)
        for node in module
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in module:
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in docstrings:
            yield text


def _calls(module: Nodes, *names: str) -> Iterator[ast.Call]:
    """Every call of a function or method with one of the names."""
    for node in module:
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
            if name in names:
                yield node


def test_commit_stands_once() -> None:
    found = [name for name, module in nodes().items() for _ in _calls(module, "commit")]
    assert len(found) == 1
    assert found[0].startswith("app/platform/")


def test_only_the_ledger_calls_the_functions_of_the_ledger() -> None:
    migrations = [
        path.read_text()
        for name in ("credits", "charges", "ledger")
        for path in ROOT.glob(f"migrations/versions/*_{name}.py")
    ]
    functions = set(re.findall(r"CREATE FUNCTION (\w+)", "".join(migrations)))
    assert {"post_transfer_v3", "lock_account_v1", "place_hold_v1"} < functions
    callers = {
        name
        for name, module in nodes().items()
        if functions & set(_names(module))
        or any(function in text for text in _texts(module) for function in functions)
    }
    assert callers == LEDGER


def test_only_the_ledger_writes_the_books() -> None:
    writers = {name for name, module in nodes().items() if any(_writes_to_the_books(module))}
    assert writers <= LEDGER


def _writes_to_the_books(module: Nodes) -> Iterator[bool]:
    """Whether each statement, text and assignment of a module changes a table of the ledger."""
    statement = rf"\b(insert\s+into|update|delete\s+from|truncate)\s+({'|'.join(BOOKS)})\b"
    for text in _texts(module):
        yield re.search(statement, text, re.IGNORECASE) is not None
    for call in _calls(module, "insert", "update", "delete"):
        method_of = [call.func.value] if isinstance(call.func, ast.Attribute) else []
        for on in (*method_of, *call.args):
            yield ast.unparse(on).rpartition(".")[2] in BOOKS
    for node in module:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr in ("balance", "held", "entry_count")


def test_only_the_settings_read_the_environment() -> None:
    touching = {
        name for name, module in nodes().items() if {"environ", "getenv"} & set(_os_names(module))
    }
    assert touching == set(ENVIRONMENT)


def _os_names(module: Nodes) -> Iterator[str]:
    """Every name that a module takes out of `os`."""
    for node in module:
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            yield node.attr


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_is_short_enough_to_read(name: str) -> None:
    assert len(SOURCES[name].splitlines()) < 300


def test_no_module_is_named_after_nothing() -> None:
    nameless = re.compile(r"(utils?|helpers?|common|base|managers?|misc)", re.IGNORECASE)
    modules = [path for top in ("app", "migrations", "tests") for path in ROOT.glob(f"{top}/**/*")]
    assert [path for path in modules if nameless.fullmatch(path.stem)] == []


def test_no_check_is_switched_off_in_a_comment_and_no_test_is_skipped() -> None:
    marks = ("# no" + "qa", "type: " + "ignore", "pragma: no " + "cover", "mark." + "skip")
    marks += ("pytest." + "skip(", "importor" + "skip", "mark." + "xfail", "pytest." + "xfail(")
    switched_off = [
        f"{path.relative_to(ROOT)}: {mark}"
        for top in ("app", "migrations", "tests")
        for path in ROOT.glob(f"{top}/**/*.py")
        for mark in marks
        if mark in path.read_text()
    ]
    assert switched_off == []


def test_every_feature_is_under_the_contracts_about_rooms() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    features = {
        f"app.{path.parent.name}"
        for path in ROOT.glob("app/*/__init__.py")
        if path.parent.name not in ("platform", "launcher", "worker", "upkeep", "cli")
    }
    assert set(setup["importlinter:contract:rooms"]["containers"].split()) == features
    assert set(setup["importlinter:contract:http"]["source_modules"].split()) == features


def test_the_readme_lists_every_setting_with_its_default_and_what_it_says() -> None:
    rows = [
        f"| `{one.name}` | {one.default} | {one.description}{' Secret.' * one.secret} |"
        for one in DECLARED
    ]
    assert [line for line in README.splitlines() if line.startswith("| `APP_")] == rows


def test_the_readme_lists_every_error_code() -> None:
    for module in pkgutil.walk_packages(application.__path__, "app."):
        importlib.import_module(module.name)
    codes = {kind.code for kind in _below(AppError) if kind.__module__.startswith("app.")}
    assert sorted(code for code in codes if f"`{code}`" not in README) == []


def _below(kind: type[AppError]) -> set[type[AppError]]:
    return {kind} | {deeper for child in kind.__subclasses__() for deeper in _below(child)}
