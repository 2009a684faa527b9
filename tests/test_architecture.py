"""The rules of the design that no linter sees.

Two tables at the end are the authorization matrix and the list of what is audited. A route that
isn't in them fails here: whoever adds one decides who may call it and what it leaves behind.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.routing import Rule

import app as application
from app.audit.actions import Action
from app.platform import guards
from app.platform.errors import AppError
from app.platform.guards import NEVER, OPTIONAL, PUBLIC, SIGNED_IN
from app.platform.settings import DECLARED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([*ROOT.glob("app/**/*.py"), ROOT / "gunicorn.conf.py", ROOT / "wsgi.py"])
}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}

# Who else touches the process's environment, and why it can't be a setting.
ENVIRONMENT = {
    "app/platform/settings/__init__.py": "reads it, for everybody",
    "app/platform/metrics.py": "tells the Prometheus library its folder, which knows no other way",
}
BOOKS = ("accounts", "account_deltas", "transfers", "entries", "holds", "ledger_state")
# Who calls the functions of the ledger in the database.
LEDGER = {"app/credits/ledger.py", "app/credits/holding.py", "app/credits/state.py"}


def _names(tree: ast.Module) -> Iterator[str]:
    """Every name and attribute that a module mentions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


def _texts(tree: ast.Module) -> Iterator[str]:
    """Every string of a module, but for its docstrings."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in docstrings:
            yield text


def _calls(tree: ast.Module, *names: str) -> Iterator[ast.Call]:
    """Every call of a function or method with one of the names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
            if name in names:
                yield node


def test_commit_stands_once() -> None:
    found = [name for name, tree in TREES.items() for _ in _calls(tree, "commit")]
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
        for name, tree in TREES.items()
        if functions & set(_names(tree))
        or any(function in text for text in _texts(tree) for function in functions)
    }
    assert callers == LEDGER


def test_only_the_ledger_writes_the_books() -> None:
    writers = {name for name, tree in TREES.items() if any(_writes_to_the_books(tree))}
    assert writers <= LEDGER


def _writes_to_the_books(tree: ast.Module) -> Iterator[bool]:
    """Whether each statement, text and assignment of a module changes a table of the ledger."""
    statement = rf"\b(insert\s+into|update|delete\s+from|truncate)\s+({'|'.join(BOOKS)})\b"
    for text in _texts(tree):
        yield re.search(statement, text, re.IGNORECASE) is not None
    for call in _calls(tree, "insert", "update", "delete"):
        method_of = [call.func.value] if isinstance(call.func, ast.Attribute) else []
        for on in (*method_of, *call.args):
            yield ast.unparse(on).rpartition(".")[2] in BOOKS
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr in ("balance", "held", "entry_count")


def test_only_the_settings_read_the_environment() -> None:
    touching = {
        name for name, tree in TREES.items() if {"environ", "getenv"} & set(_os_names(tree))
    }
    assert touching == set(ENVIRONMENT)


def _os_names(tree: ast.Module) -> Iterator[str]:
    """Every name that a module takes out of `os`."""
    for node in ast.walk(tree):
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
        if path.parent.name not in ("platform", "launcher", "worker")
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


# The authorization matrix. "signed in": the view itself decides what it shows to whom.
ROUTES = {
    "GET /": PUBLIC,
    "GET /.well-known/jwks.json": PUBLIC,
    "GET /account/page.css": PUBLIC,
    "GET /account/page.js": PUBLIC,
    "GET /account/reset": PUBLIC,
    "GET /account/undo": PUBLIC,
    "GET /account/verify": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/<any('swagger-ui.css','swagger-ui-bundle.js','favicon-32x32.png'):name>": PUBLIC,
    "GET /docs/start.js": PUBLIC,
    "GET /health": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /metrics": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /ready": PUBLIC,
    "GET /api/v1/api-keys": SIGNED_IN,
    "POST /api/v1/api-keys": SIGNED_IN,
    "DELETE /api/v1/api-keys/<uuid:key_id>": SIGNED_IN,
    "POST /api/v1/api-keys/<uuid:key_id>/rotate": SIGNED_IN,
    "GET /api/v1/audit/events": "audit:read",
    "POST /api/v1/auth/email/resend": SIGNED_IN,
    "POST /api/v1/auth/email/verify": PUBLIC,
    "POST /api/v1/auth/login": PUBLIC,
    "POST /api/v1/auth/logout": OPTIONAL,
    "POST /api/v1/auth/logout-all": SIGNED_IN,
    "POST /api/v1/auth/password/forgot": PUBLIC,
    "POST /api/v1/auth/password/reset": PUBLIC,
    "POST /api/v1/auth/refresh": PUBLIC,
    "POST /api/v1/auth/undo": PUBLIC,
    "GET /api/v1/credits/balance": SIGNED_IN,
    "GET /api/v1/credits/entries": SIGNED_IN,
    "POST /api/v1/credits/charges": "credits:charge",
    "POST /api/v1/credits/grants": "credits:grant",
    "POST /api/v1/credits/transfers": SIGNED_IN,
    "GET /api/v1/credits/transfers/<uuid:transfer_id>": SIGNED_IN,
    "POST /api/v1/users": PUBLIC,
    "GET /api/v1/users": "users:read",
    "GET /api/v1/users/<uuid:user_id>": SIGNED_IN,
    "DELETE /api/v1/users/<uuid:user_id>": "users:write",
    "PATCH /api/v1/users/<uuid:user_id>": "users:write",
    "PUT /api/v1/users/<uuid:user_id>": "users:write",
    "POST /api/v1/users/<uuid:user_id>/password-reset": "users:write",
    "POST /api/v1/users/<uuid:user_id>/reinstate": "users:suspend",
    "PUT /api/v1/users/<uuid:user_id>/roles": "users:roles",
    "POST /api/v1/users/<uuid:user_id>/suspend": "users:suspend",
    "DELETE /api/v1/users/<uuid:user_id>/sessions": "users:suspend",
    "GET /api/v1/users/<uuid:user_id>/sessions": "users:suspend",
    "DELETE /api/v1/users/me": SIGNED_IN,
    "GET /api/v1/users/me": SIGNED_IN,
    "PATCH /api/v1/users/me": SIGNED_IN,
    "POST /api/v1/users/me/export": SIGNED_IN,
    "GET /api/v1/users/me/export/<uuid:export_id>": SIGNED_IN,
    "PUT /api/v1/users/me/password": SIGNED_IN,
    "GET /api/v1/users/me/security-log": SIGNED_IN,
    "DELETE /api/v1/users/me/sessions": SIGNED_IN,
    "GET /api/v1/users/me/sessions": SIGNED_IN,
    "DELETE /api/v1/users/me/sessions/<uuid:session_id>": SIGNED_IN,
}

# What no API key opens, whatever its scopes: sign-in, passwords, login sessions, API keys, deletion
# of users, and exports, which hold what these would show.
NOT_FOR_KEYS = {
    "GET /api/v1/api-keys",
    "POST /api/v1/api-keys",
    "DELETE /api/v1/api-keys/<uuid:key_id>",
    "POST /api/v1/api-keys/<uuid:key_id>/rotate",
    "POST /api/v1/auth/email/resend",
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/logout-all",
    "DELETE /api/v1/users/<uuid:user_id>",
    "POST /api/v1/users/<uuid:user_id>/password-reset",
    "DELETE /api/v1/users/<uuid:user_id>/sessions",
    "GET /api/v1/users/<uuid:user_id>/sessions",
    "DELETE /api/v1/users/me",
    "POST /api/v1/users/me/export",
    "GET /api/v1/users/me/export/<uuid:export_id>",
    "PUT /api/v1/users/me/password",
    "DELETE /api/v1/users/me/sessions",
    "GET /api/v1/users/me/sessions",
    "DELETE /api/v1/users/me/sessions/<uuid:session_id>",
}
# A call whose path says that it is one of them; and users are deleted by people.
FOR_PEOPLE = re.compile(
    r".*/(auth|api-keys|sessions|password|export)\b.*|DELETE /api/v1/users/[^/]*"
)
# What an API key also opens by a permission, where its owner's own things need `self:read`.
ALSO_OPENED_BY = {
    "GET /api/v1/credits/transfers/<uuid:transfer_id>": "credits:read",
    "GET /api/v1/users/<uuid:user_id>": "users:read",
}

# What each call that changes something records, in the same transaction.
RECORDS = {
    "POST /api/v1/api-keys": {Action.API_KEY_CREATED, Action.ACCESS_DENIED},
    "DELETE /api/v1/api-keys/<uuid:key_id>": {Action.API_KEY_DELETED},
    "POST /api/v1/api-keys/<uuid:key_id>/rotate": {Action.API_KEY_ROTATED},
    # It asks for a mail and changes nothing.
    "POST /api/v1/auth/email/resend": set(),
    "POST /api/v1/auth/email/verify": {
        Action.EMAIL_VERIFIED,
        Action.EMAIL_CHANGED,
        Action.USER_CREATED,
    },
    "POST /api/v1/auth/login": {Action.SESSION_STARTED, Action.LOGIN_FAILED},
    "POST /api/v1/auth/logout": {Action.SESSION_ENDED},
    "POST /api/v1/auth/logout-all": {Action.SESSION_ENDED},
    "POST /api/v1/auth/password/forgot": {Action.RECOVERY_REQUESTED},
    "POST /api/v1/auth/password/reset": {Action.CREDENTIAL_RECOVERED, Action.SESSION_ENDED},
    "POST /api/v1/auth/refresh": {Action.REFRESH_REUSED},
    "POST /api/v1/credits/charges": {Action.CHARGE_CREATED},
    "POST /api/v1/auth/undo": {
        Action.EMAIL_CHANGE_REVERTED,
        Action.DELETION_REVERTED,
        Action.SESSION_ENDED,
    },
    "POST /api/v1/credits/grants": {Action.GRANT_CREATED},
    "POST /api/v1/credits/transfers": {Action.TRANSFER_CREATED},
    "POST /api/v1/users": {Action.USER_CREATED},
    "DELETE /api/v1/users/<uuid:user_id>": {
        Action.DELETION_STARTED,
        Action.CREDITS_FORFEITED,
        Action.SESSION_ENDED,
    },
    "PATCH /api/v1/users/<uuid:user_id>": {Action.USER_CHANGED},
    "PUT /api/v1/users/<uuid:user_id>": {Action.USER_CHANGED},
    "POST /api/v1/users/<uuid:user_id>/password-reset": {
        Action.CREDENTIAL_RESET_REQUIRED,
        Action.SESSION_ENDED,
    },
    "DELETE /api/v1/users/me": {
        Action.CREDENTIAL_REFUSED,
        Action.DELETION_STARTED,
        Action.CREDITS_FORFEITED,
        Action.SESSION_ENDED,
    },
    "PATCH /api/v1/users/me": {Action.USER_CHANGED, Action.EMAIL_CHANGE_REQUESTED},
    "POST /api/v1/users/me/export": {Action.EXPORT_REQUESTED},
    "PUT /api/v1/users/me/password": {
        Action.CREDENTIAL_CHANGED,
        Action.CREDENTIAL_REFUSED,
        Action.SESSION_ENDED,
    },
    "DELETE /api/v1/users/<uuid:user_id>/sessions": {Action.SESSION_ENDED},
    "DELETE /api/v1/users/me/sessions": {Action.SESSION_ENDED},
    "DELETE /api/v1/users/me/sessions/<uuid:session_id>": {Action.SESSION_ENDED},
    "POST /api/v1/users/<uuid:user_id>/reinstate": {Action.USER_REINSTATED},
    "PUT /api/v1/users/<uuid:user_id>/roles": {Action.USER_ROLES_CHANGED},
    "POST /api/v1/users/<uuid:user_id>/suspend": {Action.USER_SUSPENDED, Action.SESSION_ENDED},
}
# What isn't recorded by a route of its own.
ELSEWHERE = {
    Action.ACCESS_DENIED,  # by the guard of every route that asks for a permission
    Action.ADMIN_CREATED,  # by the command line
    Action.USER_ERASED,  # by a job, and by the command line
    Action.LEDGER_FROZEN,  # by a job, and by the command line
    Action.LEDGER_UNFROZEN,  # by the command line
    # By the service itself, and by the command line.
    Action.SIGNING_KEY_CREATED,
    Action.SIGNING_KEY_ACTIVATED,
    Action.SIGNING_KEY_REENCRYPTED,
    Action.SIGNING_KEY_REVOKED,
    Action.SIGNING_KEY_DELETED,
}


def _calls_of(rule: Rule) -> Iterator[str]:
    """The methods of a route that a client chooses: Flask adds HEAD and OPTIONS itself."""
    return (f"{method} {rule.rule}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"})


def test_every_route_is_in_the_authorization_matrix(app: Flask) -> None:
    found = {
        call: guards.access(app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules()
        for call in _calls_of(rule)
    }
    assert found == ROUTES


def test_what_no_api_key_opens_is_written_down(app: Flask) -> None:
    keys = {
        call: vars(app.view_functions[rule.endpoint]).get("keys")
        for rule in app.url_map.iter_rules()
        for call in _calls_of(rule)
    }
    assert {call for call, said in keys.items() if said == NEVER} == NOT_FOR_KEYS
    named = {call for call in ROUTES if FOR_PEOPLE.fullmatch(call) and ROUTES[call] != PUBLIC}
    assert named == NOT_FOR_KEYS
    also = {call: said for call, said in keys.items() if said not in (None, NEVER)}
    assert also == ALSO_OPENED_BY


def test_the_readme_lists_every_operation(app: Flask) -> None:
    parts_of_pages = ("/docs/", "/account/page.")
    calls = {
        call.replace("<uuid:", "{").replace(">", "}")
        for call in ROUTES
        if not any(part in call for part in parts_of_pages)
    }
    assert sorted(call for call in calls if f"`{call}`" not in README) == []


def test_what_every_mutating_route_records_is_written_down(app: Flask) -> None:
    mutating = {
        call
        for rule in app.url_map.iter_rules()
        for call in _calls_of(rule)
        if not call.startswith("GET ")
    }
    assert mutating == set(RECORDS)
    assert set(Action) == ELSEWHERE.union(*RECORDS.values())
