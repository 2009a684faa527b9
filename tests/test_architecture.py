"""The tables of all routes: who may call them, what opens them to a program, what they record.

A route that isn't in them fails here: whoever adds one decides who may call it and what it leaves
behind.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from flask import Flask
from werkzeug.routing import Rule

from app.audit.actions import Action
from app.platform import guards
from app.platform.guards import NEVER, OPTIONAL, PUBLIC, SIGNED_IN

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()

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
    "GET /api/v1/credits/holds": SIGNED_IN,
    "POST /api/v1/credits/holds": SIGNED_IN,
    "GET /api/v1/credits/holds/<uuid:hold_id>": SIGNED_IN,
    "POST /api/v1/credits/holds/<uuid:hold_id>/capture": SIGNED_IN,
    "POST /api/v1/credits/holds/<uuid:hold_id>/release": SIGNED_IN,
    "POST /api/v1/credits/transfers": SIGNED_IN,
    "POST /api/v1/credits/transfers/batch": SIGNED_IN,
    "POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse": "credits:reverse",
    "GET /api/v1/idempotency": SIGNED_IN,
    "GET /api/v1/users/<uuid:user_id>/credits": "credits:read",
    "GET /api/v1/credits/transfers/<uuid:transfer_id>": SIGNED_IN,
    "GET /api/v1/discounts": "catalogue:write",
    "POST /api/v1/discounts": "catalogue:write",
    "GET /api/v1/discounts/<uuid:discount_id>": "catalogue:write",
    "PATCH /api/v1/discounts/<uuid:discount_id>": "catalogue:write",
    "GET /api/v1/orders": SIGNED_IN,
    "POST /api/v1/orders": SIGNED_IN,
    "GET /api/v1/orders/export.csv": SIGNED_IN,
    "GET /api/v1/orders/<uuid:order_id>": SIGNED_IN,
    "POST /api/v1/orders/<uuid:order_id>/pay": SIGNED_IN,
    "POST /api/v1/orders/<uuid:order_id>/cancel": SIGNED_IN,
    "POST /api/v1/orders/<uuid:order_id>/fulfil": "orders:write",
    "POST /api/v1/orders/<uuid:order_id>/refund": "orders:refund",
    "GET /api/v1/products": PUBLIC,
    "POST /api/v1/products": "catalogue:write",
    "GET /api/v1/products/<uuid:product_id>": PUBLIC,
    "PATCH /api/v1/products/<uuid:product_id>": "catalogue:write",
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
    "GET /api/v1/webhooks": "webhooks:write",
    "POST /api/v1/webhooks": "webhooks:write",
    "DELETE /api/v1/webhooks/<uuid:webhook_id>": "webhooks:write",
    "GET /api/v1/webhooks/<uuid:webhook_id>": "webhooks:write",
    "PATCH /api/v1/webhooks/<uuid:webhook_id>": "webhooks:write",
    "GET /api/v1/webhooks/<uuid:webhook_id>/deliveries": "webhooks:write",
    "POST /api/v1/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/replay": (
        "webhooks:write"
    ),
    "POST /api/v1/webhooks/<uuid:webhook_id>/rotate": "webhooks:write",
}

# Queries for which a public call asks for a permission.
ASKED_WHERE = {"GET /api/v1/products": ("active", "false", "catalogue:write")}

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
    r".*/(auth|api-keys|sessions|password|export(?!\.))\b.*|DELETE /api/v1/users/[^/]*"
)
# What an API key also opens by a permission, where its owner's own things need `self:read`.
ALSO_OPENED_BY = {
    "GET /api/v1/orders": "orders:read",
    "GET /api/v1/orders/export.csv": "orders:read",
    "GET /api/v1/orders/<uuid:order_id>": "orders:read",
    "POST /api/v1/orders/<uuid:order_id>/cancel": "orders:write",
    "GET /api/v1/credits/holds": "credits:read",
    "POST /api/v1/credits/holds": "credits:charge",
    "GET /api/v1/credits/holds/<uuid:hold_id>": "credits:read",
    "POST /api/v1/credits/holds/<uuid:hold_id>/capture": "credits:charge",
    "POST /api/v1/credits/holds/<uuid:hold_id>/release": "credits:charge",
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
    "POST /api/v1/credits/holds": {Action.HOLD_PLACED},
    "POST /api/v1/credits/holds/<uuid:hold_id>/capture": {Action.HOLD_CAPTURED},
    "POST /api/v1/credits/holds/<uuid:hold_id>/release": {Action.HOLD_RELEASED},
    "POST /api/v1/credits/transfers": {Action.TRANSFER_CREATED},
    "POST /api/v1/credits/transfers/batch": {Action.TRANSFER_CREATED},
    "POST /api/v1/credits/transfers/<uuid:transfer_id>/reverse": {Action.TRANSFER_REVERSED},
    "POST /api/v1/discounts": {Action.DISCOUNT_CREATED},
    "PATCH /api/v1/discounts/<uuid:discount_id>": {Action.DISCOUNT_CHANGED},
    "POST /api/v1/orders": {Action.ORDER_PLACED},
    "POST /api/v1/orders/<uuid:order_id>/pay": {Action.ORDER_PAID},
    "POST /api/v1/orders/<uuid:order_id>/cancel": {Action.ORDER_CANCELLED},
    "POST /api/v1/orders/<uuid:order_id>/fulfil": {Action.ORDER_FULFILLED},
    "POST /api/v1/orders/<uuid:order_id>/refund": {Action.ORDER_REFUNDED},
    "POST /api/v1/products": {Action.PRODUCT_CREATED},
    "PATCH /api/v1/products/<uuid:product_id>": {Action.PRODUCT_CHANGED},
    "POST /api/v1/users": {Action.USER_CREATED},
    "DELETE /api/v1/users/<uuid:user_id>": {
        Action.DELETION_STARTED,
        Action.CREDITS_FORFEITED,
        Action.HOLD_RELEASED,
        Action.HOLD_EXPIRED,
        Action.ORDER_CANCELLED,
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
        Action.HOLD_RELEASED,
        Action.HOLD_EXPIRED,
        Action.ORDER_CANCELLED,
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
    "POST /api/v1/webhooks": {Action.WEBHOOK_CREATED},
    "DELETE /api/v1/webhooks/<uuid:webhook_id>": {Action.WEBHOOK_DELETED},
    "PATCH /api/v1/webhooks/<uuid:webhook_id>": {Action.WEBHOOK_CHANGED},
    "POST /api/v1/webhooks/<uuid:webhook_id>/deliveries/<uuid:delivery_id>/replay": {
        Action.DELIVERY_REPLAYED
    },
    "POST /api/v1/webhooks/<uuid:webhook_id>/rotate": {Action.WEBHOOK_ROTATED},
}
# What isn't recorded by a route of its own.
ELSEWHERE = {
    Action.ACCESS_DENIED,  # by the guard of every route that asks for a permission
    Action.ADMIN_CREATED,  # by the command line
    Action.USER_ERASED,  # by a job, and by the command line
    Action.LEDGER_FROZEN,  # by a job, and by the command line
    Action.LEDGER_UNFROZEN,  # by the command line
    Action.WEBHOOK_SWITCHED_OFF,  # by the worker
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


def test_which_queries_ask_for_more_than_their_route_is_written_down(app: Flask) -> None:
    found = {
        call: guards.condition(app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules()
        for call in _calls_of(rule)
    }
    assert {call: where for call, where in found.items() if where} == ASKED_WHERE


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
